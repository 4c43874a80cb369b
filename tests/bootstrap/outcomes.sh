#!/bin/bash
# Usage, consent, what plan shows, and refusals before anything changed.
# shellcheck disable=SC2119,SC2016
# shellcheck source=tests/bootstrap/fixture.sh
. "$(dirname "${BASH_SOURCE[0]}")/fixture.sh"

fresh() { machine; invitation; release; pack; }
fresh

bootstrap
expect no_argument_only_explains 0 'Nothing was changed.' not-run
check explaining_leaves_nothing [ ! -e "$box/state" ]
for args in explode 'join --force' 'plan --hand-over web-3' 'status --json' 'join --invite' 'join --invite --yes' \
    'join --listen 7117' 'join --listen :7117' 'join --advertise a b' 'join --advertise h:999999' join 'join plan'; do
    # shellcheck disable=SC2086 # words on purpose
    bootstrap $args
    expect "usage: $args" 2 'bootstrap.sh:' not-run
done

# Consent.
fresh; bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-4
expect wrong_name_is_refused 2 'this machine is web-3; nothing was changed' not-run
check wrong_name_leaves_nothing [ ! -e "$box/state" ]
fresh; bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --yes
expect yes_is_no_consent 3 'no terminal to ask on' looked
fresh; stub getent 'echo ann:x:1000:1000::/home/ann:/bin/bash'
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3
expect warnings_need_yes_without_a_terminal 3 'need --yes' looked
typed() { # WORD: joins on a terminal of its own and types WORD there
    fresh
    # The word waits in the terminal's input until the script reads it.
    out=$(printf '%s\n' "$1" "$1" | on_server \
        script -qec "$script join --invite $box/invite.json --bundle $box/bundle.tar ${2:-}" /dev/null 2>&1)
    rc=$?
    at_rest
}
typed web-3; expect typed_name_is_consent 0 RECEIPT ran
typed y; expect y_is_no_consent 3 'that is not web-3' looked
typed ''; expect an_empty_line_is_no_consent 3 'that is not web-3' looked
typed web-3 "--owner-key $box/keys/owner.pub"; expect the_sealed_backup_can_be_copied_first 0 'press Enter to hand root over' ran
fresh
out=$(printf 'web-3\n' | on_server \
    script -qec "$script join --invite $box/invite.json --bundle $box/bundle.tar --owner-key $box/keys/owner.pub" /dev/null 2>&1); rc=$?; at_rest
expect a_line_that_never_comes_is_no_enter 6 'before Enter was pressed' not-installed
check and_root_is_not_handed_over [ "$(cat "$box/taken"):$(grep -c -e '^install' -e 'takeover apply' "$box/asked")" = aborted:0 ]
fresh
out=$(echo web-3 | on_server setsid -w "$script" join --invite "$box/invite.json" --bundle "$box/bundle.tar" 2>&1); rc=$?
expect piped_name_is_no_consent 3 'no terminal to ask on' looked

# Machines that may not join.
refused() { join; expect "$1" 3 "$2" not-run; }
fresh; stub id 'echo 1000'; refused not_root 'needs root'
bootstrap plan; expect plan_says_so_too 3 'not root (uid 1000)' not-run
bootstrap status; expect status_needs_root 3 'needs root' not-run
fresh; stub systemctl 'case $1 in --version) echo "systemd 247 (247.3)" ;; *) echo running ;; esac'; refused old_systemd '252 or newer'
fresh; stub systemctl 'case $1 in --version) echo "systemd 252 (252.1)" ;; *) echo offline ;; esac'; refused systemd_that_does_not_run 'does not run this machine'
fresh; stub systemctl 'exit 127'; refused no_systemd 'version none found'
fresh; stub df 'printf "h\nx 1 1 1000 1%% /\n"'; refused full_disk 'MiB wanted'; rm "$box/bin/df"
fresh; stub ss 'echo "LISTEN 0 128 [::]:7117 [::]:*"'; refused port_in_use '7117 is in use'
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes --listen 0.0.0.0:7200 --advertise web-3.example:7200
expect another_port 0 RECEIPT ran
check listen_and_advertise_reach_the_installer grep -q -- '--name web-3 --listen 0.0.0.0:7200 --advertise web-3.example:7200$' "$box/installed"

# A network's first server must be one that others can dial.
fresh; invitation 'members=[]'; refused a_first_server_that_nobody_can_dial 'STOP  reach'
bootstrap plan --invite "$box/invite.json"; expect and_plan_says_it_beforehand 3 'STOP  reach' not-run
bootstrap plan --invite "$box/invite.json" --advertise web-3.example:7117
expect plan_says_that_it_is_the_first 0 'joins       as the FIRST server of this network' not-run
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes --advertise web-3.example:7117
expect a_first_server_that_others_can_dial 0 RECEIPT ran
said and_the_consent_says_so_too 'It joins as the FIRST server of this network.'
fresh; bootstrap plan --invite "$box/invite.json"
expect plan_says_through_whom_it_joins 0 'joins       through web-1.example:7117' not-run
said and_that_nobody_can_dial_it_which_stops_no_unattended_join 'note  reach'
fresh; stub uname 'case ${1:-} in -n) echo "web 3" ;; *) echo x86_64 ;; esac'
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over 'web 3' --yes
expect odd_host_name 3 'STOP  name' not-run
fresh; stub uname 'case ${1:-} in -n) echo web-3 ;; *) echo riscv64 ;; esac'; refused another_processor 'built for x86_64'

# What an install makes is its own, for the way back removes it.
by_sysusers='borgios:x:998:997:BorgIOS agent:/var/lib/borgios:/usr/sbin/nologin'
fresh; stub getent 'case $1 in passwd) echo borgios:x:998:997::/home/borgios:/bin/bash ;; group) echo borgios:x:997: ;; esac'
refused somebodys_own_borgios 'not as join makes it'
bootstrap plan; expect and_plan_says_it_too 3 'not as join makes it' not-run
fresh; stub getent "case \$1 in passwd) echo '$by_sysusers' ;; group) echo borgios:x:997:ann ;; esac"
refused somebody_in_the_agents_group 'not as join makes it'
fresh; stub getent "case \$1 in passwd) echo '$by_sysusers' ;; group) echo docker:x:990:ann,borgios ;; esac"
refused an_agent_in_another_group 'not as join makes it'
fresh; stub getent "case \$1 in passwd) echo '$by_sysusers' ;; group) echo borgios:x:997: ;; esac"; join
expect the_account_as_join_makes_it 0 RECEIPT ran
for folder in software agent keeper; do
    fresh; mkdir "$box/$folder"; echo theirs >"$box/$folder/.theirs"; refused "somebody's own folder: $folder" "$box/$folder is there already"
    check "and it is left alone: $folder" [ "$(cat "$box/$folder/.theirs")" = theirs ]
    fresh; ln -s "$box/none" "$box/$folder"; refused "a link for a folder: $folder" "$box/$folder is there already"
done
fresh; mkdir "$box/agent"; join; expect an_empty_folder 0 RECEIPT ran

fresh; stub sshd 'echo "/etc/ssh/sshd_config: line 3: Bad option: Prot" >&2; exit 255'; refused sshd_that_would_not_start 'line 3: Bad option'
fresh; sed -i 's/^ID=.*/ID=fedora/' "$box/os-release"; refused another_kin_of_systems 'Debian and its kin only'
fresh; printf 'PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE=debian\n' >"$box/os-release"; join
expect another_release_is_a_warning 0 'only Debian 12 is tested' ran
fresh; stub ss 'echo "LISTEN 0 80 127.0.0.1:3306 0.0.0.0:* users:((\"mariadbd\",pid=7,fd=9))"'
stub who 'printf "ann pts/0 x\nben pts/1 x\n"'; bootstrap plan
expect what_the_machine_is_used_for_is_shown 0 '3306 mariadbd' not-run
said logins_are_shown_too 'ann on pts/0, ben on pts/1'

# Plan: with both files it shows what the verified keeper would take, and it changes nothing.
fresh; bootstrap plan --invite "$box/invite.json" --bundle "$box/bundle.tar"
expect plan_shows_the_keepers_catalogue 0 'who may become root' looked
check planning_leaves_nothing [ ! -e "$box/state" ]
bootstrap plan --bundle "$box/bundle.tar"; expect plan_checks_a_bundle_against_an_invitation 2 'needs --invite' looked
fresh; bootstrap plan --owner-key "$box/none"; expect plan_looks_at_the_owners_key 3 'a public key' not-run
bootstrap plan --owner-key "$box/keys/owner.pub"; expect and_takes_one_that_is_good 0 'sealed to the owner' not-run
fresh; echo x >>"$box/b/installer"; pack; bootstrap plan --invite "$box/invite.json" --bundle "$box/bundle.tar"
expect plan_runs_nothing_that_was_not_signed 4 tampered not-run
fresh; echo 'plan 5' >"$box/goes-wrong"; join; expect a_catalogue_that_fails_stops_it 3 'cannot tell what it would take' looked

# The folder of what root runs is root's own.
fresh; mkdir -m 777 "$box/state"; join; expect a_folder_that_was_there 0 RECEIPT ran
check is_closed_to_others [ "$(stat -c %a "$box/state")" = 700 ]
check and_made_roots [ "$(head -n 1 "$box/chowned")" = "-h 0:0 $box/state" ]
fresh; mkdir "$box/elsewhere"; ln -s "$box/elsewhere" "$box/state"
for command in "join --invite $box/invite.json --hand-over web-3" abort status; do
    # shellcheck disable=SC2086 # words on purpose
    bootstrap $command; expect "a link in its place: ${command%% *}" 3 'is a link' not-run
done
check nothing_was_written_through_it [ -z "$(ls -A "$box/elsewhere")" ]
rm "$box/state"; ln -s "$box/none" "$box/state"
join; expect a_link_to_nothing 3 'is a link' not-run

finish

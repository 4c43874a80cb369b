#!/bin/bash
# Usage, consent, refusals before anything changed, and how a join can end: the exit codes.
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
expect yes_is_no_consent 3 'no terminal to ask on' not-run
fresh; stub getent 'echo ann:x:1000:1000::/home/ann:/bin/bash'
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3
expect warnings_need_yes_without_a_terminal 3 'need --yes' not-run
typed() { # WORD: joins on a terminal of its own and types WORD there
    fresh
    # The word waits in the terminal's input until the script reads it.
    out=$(cd "$box" && printf '%s\n' "$1" | BORGIOS_BOOTSTRAP_DIR=$box/state BORGIOS_KEEPER_DIR=$box/keeper \
        BORGIOS_CLI=$box/bin/borgios PATH=$box/bin:$PATH timeout 60 \
        script -qec "$script join --invite $box/invite.json --bundle $box/bundle.tar" /dev/null 2>&1)
    rc=$?
}
typed web-3; expect typed_name_is_consent 0 RECEIPT ran
typed y; expect y_is_no_consent 3 'that is not web-3' not-run
typed ''; expect an_empty_line_is_no_consent 3 'that is not web-3' not-run
fresh
out=$(cd "$box" && echo web-3 | BORGIOS_BOOTSTRAP_DIR=$box/state BORGIOS_KEEPER_DIR=$box/keeper PATH=$box/bin:$PATH \
    timeout 60 setsid -w "$script" join --invite "$box/invite.json" --bundle "$box/bundle.tar" 2>&1); rc=$?
expect piped_name_is_no_consent 3 'no terminal to ask on' not-run

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
fresh; stub uname 'case ${1:-} in -n) echo "web 3" ;; *) echo x86_64 ;; esac'
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over 'web 3' --yes
expect odd_host_name 3 'STOP  name' not-run
fresh; stub uname 'case ${1:-} in -n) echo web-3 ;; *) echo riscv64 ;; esac'; refused another_processor 'built for x86_64'

# How a join ends.
fresh; echo 1 >"$box/installer-exit"; join; expect failed_installer 5 'the installer failed' ran
fresh; echo 6 >"$box/installer-exit"; join; expect rolled_back_release 6 'rolled back' ran
fresh; echo 4 >"$box/installer-exit"; join; expect installer_that_refuses_the_chain 4 'the installer found' ran
fresh; echo 10 >"$box/installer-exit"; join; expect installer_that_finds_a_member 10 'a member already' ran
fresh; stub borgios 'echo "{\"tree\":{\"state\":\"joining\"}}"'; join
expect never_in_the_tree 5 'not in the tree after' ran
fresh; stub borgios 'echo garbage'; join; expect agent_that_talks_nonsense 5 'not in the tree after' ran
fresh; mkdir "$box/keeper"; : >"$box/keeper/keeper.key"; join
expect a_member_cannot_join_again 10 'a member already' not-run
bootstrap plan; expect plan_knows_a_member 10 'a member already' not-run
bootstrap status; expect status_of_a_member 0 'member;' not-run
fresh; mkdir "$box/keeper" "$box/state"; : >"$box/keeper/keeper.key"; echo 'install 2026-01-01' >"$box/state/stage"; join
expect a_join_cut_off_goes_on 0 'going on' ran
# Cut off while it waited for the tree: the installer has nothing left to do.
fresh; mkdir "$box/keeper" "$box/state"; : >"$box/keeper/keeper.key"; echo 'join 2026-01-01' >"$box/state/stage"
echo 10 >"$box/installer-exit"; join
expect a_join_cut_off_in_its_wait_goes_on 0 RECEIPT ran
fresh; echo "mkdir -p '$box/keeper'; : >'$box/keeper/keeper.key'; kill -TERM \$PPID" >"$box/installer-does"; join
expect a_join_ended_by_a_signal_cleans_up 143 'running the verified installer' ran
rm -f "$box/installer-does" "$box/installed"; join
expect and_goes_on_when_asked_again 0 'going on' ran
check the_stage_is_recorded grep -q '^joined ' "$box/state/stage"
fresh; mkdir "$box/state"; exec 8>"$box/state/lock"; flock 8; join
expect two_at_once 3 'another bootstrap.sh is running' not-run
exec 8>&-
machine; bootstrap status; expect status_of_a_stranger 0 'not a member' not-run
SHELL_UNDER_TEST=/bin/bash; fresh; join; expect bash_runs_it_too 0 RECEIPT ran
finish

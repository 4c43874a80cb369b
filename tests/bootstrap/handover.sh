#!/bin/bash
# The hand-over: its order, its way back before the purge, its way on after it, and joins that are
# killed, watched, aborted, piped in, or run by nobody.
# shellcheck disable=SC2119,SC2016
# shellcheck source=tests/bootstrap/fixture.sh
. "$(dirname "${BASH_SOURCE[0]}")/fixture.sh"

fresh() { machine; invitation; release; pack; }

# The order of a join, and what is left of it.
verbs() { sed -n 's/^\(install\|rotate\) .*/\1/p; s/^takeover \([a-z-]*\).*/\1/p' "$box/asked" | grep -v status | tr '\n' ' '; }
fresh; join; expect a_join_hands_root_over 0 'RECEIPT' ran
check every_stage_in_its_order [ "$(verbs)" = 'plan begin install trial apply rotate verify receipt end-sessions rotate apply verify ' ]
check the_stage_is_recorded grep -q '^joined ' "$box/state/stage"
check the_receipt_is_checked_by_stock_ssh_keygen bash -c \
    "cd '$box/state' && ssh-keygen -Y verify -f handover.signers -I keeper -n borgios-handover@v1 -s handover.json.sig <handover.json >/dev/null"
check and_not_one_changed_byte bash -c "cd '$box/state' && sed 's/web-3/web-4/' handover.json |
    if ssh-keygen -Y verify -f handover.signers -I keeper -n borgios-handover@v1 -s handover.json.sig >/dev/null 2>&1; then exit 1; fi"
said the_new_host_key_is_shown "host key    $(ssh-keygen -lf "$box/keys/board.pub" | cut -d' ' -f2) (ED25519)"
said the_receipt_says_what_becomes_of_the_invitation 'delete every other copy of the invitation'
check and_the_one_it_was_given_is_gone [ ! -e "$box/invite.json" ]
check no_owners_key_no_sealed_backup [ ! -e "$box/state/owner-backup.age" ]
join; expect a_second_join_is_a_member 10 'a member already' ran
bootstrap abort; expect abort_after_the_purge_says_no 3 'only reinstalling' ran
fresh; bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes --owner-key "$box/keys/owner.pub"
expect the_owner_gets_a_sealed_backup 0 'owner-backup.age' ran
check the_owners_key_reaches_backup_and_receipt [ "$(grep -c -- "--owner-key $box/state/owner.pub" "$box/asked")" = 2 ]
check the_owners_key_reaches_the_join_record grep -qF -- "--owner $(cut -d" " -f1,2 "$box/keys/owner.pub")" "$box/asked"
for key in "$box/keys/owner" "$box/none" "$box/invite.json"; do
    fresh; bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes --owner-key "$key"
    expect "owner's key that is none: ${key##*/}" 3 'a public key' not-run
done

# Before the purge every failure ends in the old state.
back() { # NAME TEXT
    expect "$1" "${3:-6}" "$2" ran
    check "$1: all is back" [ "$(cut -d' ' -f1 "$box/state/stage"):$(cat "$box/taken"):$(ls "$box/keeper" 2>/dev/null)" = aborted:aborted: ]
}
fresh; echo 'begin 5' >"$box/goes-wrong"; join
expect a_backup_that_fails_is_no_join 6 'could not make the backup' not-installed
check and_nothing_is_installed [ ! -e "$box/installed" ]
fresh; stub systemd-run 'exit 1'; join; expect no_unit_of_its_own_no_join 6 'everything is as it was' not-installed
check and_nothing_is_installed_either [ ! -e "$box/installed" ]
installs() { fresh; echo "printf x >'$box/installed'; $1" >"$box/install-does"; join; }
installs 'exit 1'; back failed_installer 'the installer failed'
installs 'exit 6'; back rolled_back_release 'was rolled back'
installs 'exit 4'; back installer_that_refuses_the_chain 'the installer found' 4
installs 'exit 10'; back installer_that_finds_a_member 'for a member already'
fresh; stub borgios 'echo "{\"tree\":{\"state\":\"joining\"}}"'; join; back never_in_the_tree 'not in the tree after'
fresh; stub borgios 'echo garbage'; join; back agent_that_talks_nonsense 'not in the tree after'
fresh; echo 'trial 5' >"$box/goes-wrong"; join; back a_trial_that_fails 'the trial failed'
check nothing_was_purged [ "$(verbs)" = 'plan begin install trial abort ' ]
check and_the_invitation_is_kept [ -s "$box/invite.json" ]
fresh; echo 'apply 6' >"$box/goes-wrong"; join; back a_purge_that_took_itself_back 'the purge failed'
fresh; echo 'apply 5' >"$box/goes-wrong"; join; back a_purge_that_never_began 'the purge failed'
fresh; stub borgios "echo aborted >'$box/taken'; rm -rf '$box/keeper'; exit 1"; join; back the_timer_was_first 'deadline has passed'
fresh; printf 'trial 5\nabort 5\n' >"$box/goes-wrong"; join
expect what_cannot_be_brought_back_is_said 5 'not everything could be brought back' ran
rm "$box/goes-wrong"; bootstrap abort; expect and_abort_tries_again 0 'as it was before' ran
join; expect a_join_after_an_abort_begins_anew 0 RECEIPT ran
check with_a_backup_of_its_own [ "$(grep -c '^takeover begin' "$box/asked")" = 2 ]

# The deadline passes while something is waited for: nothing is installed that nothing would take back.
fresh; stub systemd-run "echo aborted >'$box/taken'"; join
expect the_timer_was_first_before_the_install 6 'everything is as it was' not-installed
check and_nothing_was_installed_after_it [ ! -e "$box/installed" ]
fresh; stub systemd-run "echo 100 >'$box/left'"; join
expect a_deadline_too_near_to_install 6 'too near (100 s left' not-installed
check and_nothing_was_installed_before_it [ ! -e "$box/installed" ]
fresh; echo 'echo aborted >"$box/taken"; wrong=5' >"$box/trial-does"; join
expect a_member_is_never_called_as_it_was 5 'a member all the same' ran

# A terminal that waits for Enter: the deadline runs, a closed terminal is no Enter, abort ends it.
at_prompt() { # the owner has typed the name and copies the backup; what is typed next goes to 7
    rm -f "$box/typing" "$box/first"; mkfifo "$box/typing"
    on_server script -qec "$script join --invite $box/invite.json --bundle $box/bundle.tar --owner-key $box/keys/${1:-owner}.pub" \
        /dev/null <"$box/typing" >"$box/first" 2>&1 &
    first=$!
    exec 7<>"$box/typing"; echo web-3 >&7
    for _ in $(seq 1200); do ! grep -q 'press Enter' "$box/first" && kill -0 "$first" 2>/dev/null || break; /bin/sleep 0.05; done
}
ended() { exec 7>&-; wait "$first"; rc=$?; out=$(cat "$box/first"); at_rest; }
asked_for() { grep -c "^takeover $1" "$box/asked"; }
fresh; at_prompt; echo aborted >"$box/taken"; echo >&7; ended
expect the_deadline_passes_at_the_prompt 6 'everything is as it was' not-installed
check and_enter_installs_nothing [ ! -e "$box/installed" ]
fresh; at_prompt; ended
expect a_terminal_that_closes_is_no_enter 6 'before Enter was pressed' not-installed
check and_all_of_it_is_taken_back [ "$(cat "$box/taken"):$(verbs)" = 'aborted:plan begin abort ' ]
fresh; at_prompt; out=$(on_server setsid -w /bin/sh "$script" abort 2>&1 </dev/null); rc=$?
expect abort_ends_a_join_that_waits_for_enter 0 'as it was before' not-installed
ended; check and_nothing_goes_on_after_it [ "$(cat "$box/taken"):$(verbs)" = 'aborted:plan begin abort ' ]
kill_at_prompt() { kill -s KILL "$(pgrep -f "^/bin/sh $script join .*$box/" | head -n 1)"; ended; }
fresh; at_prompt; kill_at_prompt; at_prompt; echo >&7; ended
expect the_next_join_waits_for_the_copy_again 0 'press Enter' ran
check with_the_backup_that_was_made [ "$(asked_for begin):$(asked_for abort)" = 1:0 ]

# What was cut off goes on only with what is agreed to now.
fresh; at_prompt other; kill_at_prompt; at_prompt; echo >&7; ended
expect another_owners_key_begins_anew 0 'other inputs' ran
check and_it_is_the_key_of_the_backup [ "$(asked_for begin):$(asked_for abort)" = 2:1 ]
check and_of_the_join_record grep -qF -- "--owner $(cut -d' ' -f1,2 "$box/keys/owner.pub")" "$box/installed"

# After the purge it only goes on.
for verb in rotate verify receipt end-sessions; do
    fresh; echo "$verb 5" >"$box/goes-wrong"; join
    if [ "$verb" = end-sessions ]; then rc=5; out='Root is handed over'; fi # whoever followed was told the end before
    expect "after the purge $verb fails" 5 'Root is handed over' ran
    bootstrap abort; expect "$verb failed: abort says no" 3 'only reinstalling' ran
    rm "$box/goes-wrong"; : >"$box/asked"; join
    expect "$verb failed: join goes on" 0 'going on' ran
    check "$verb failed: and installs nothing again" [ "$(verbs)" = 'apply rotate verify receipt end-sessions rotate apply verify ' ]
done
fresh; echo 'echo purging >"$box/taken"; wrong=5' >"$box/apply-does"; join
expect a_purge_cut_off_cannot_go_back 5 'Root is handed over' ran
bootstrap status; said status_of_a_purge_that_was_cut_off 'root is handed over; what is left'
check and_it_says_not_the_contrary [ "${out#*not handed over}" = "$out" ]
rm "$box/apply-does"
bootstrap abort; expect abort_finishes_a_purge_that_was_cut_off 3 'only reinstalling' ran
check and_does_not_stay_between grep -qx "done" "$box/taken"

# What a login did until it ended is looked for once more, before it is said that all is done.
fresh; echo 'grep -q end-sessions "$box/asked" && wrong=5' >"$box/verify-does"; join
# Whoever followed was told the end before; the log and the exit code are for who asks later.
check what_came_back_with_a_login_is_said grep -q 'before the last login ended' "$box/state/join.log"
check and_is_no_success [ "$(cat "$box/state/join.exit")" = 5 ]
check and_it_is_not_joined grep -q '^sessions ' "$box/state/stage"
rm "$box/verify-does"; join; expect and_the_next_join_looks_again 0 'going on' ran
check until_nothing_is_left grep -q '^joined ' "$box/state/stage"

# The invitation goes when all is done, and no other file in its stead.
fresh; echo 'echo theirs >"$box/invite.json"' >"$box/end-sessions-does"; join
check another_file_in_its_place_stays grep -qx theirs "$box/invite.json"
fresh; mv "$box/invite.json" "$box/kept.json"; ln -s "$box/kept.json" "$box/invite.json"; join
expect a_link_to_the_invitation 0 'delete the invitation file' ran
check is_for_its_owner_to_delete [ -L "$box/invite.json" -a -s "$box/kept.json" ]
rm "$box/invite.json" "$box/kept.json"
# Cut off when it was about to be moved, or half overwritten: nobody else would remove it.
for program in mv shred; do
    fresh; stub "$program" 'case "$*" in *bootstrap.invitation*) for last do :; done; [ ! -e "$last" ] || echo half >"$last"; kill -KILL "$PPID" ;; *) exec '"$(command -v "$program")"' "$@" ;; esac'
    join; rm "$box/bin/$program"
    check "cut off at the $program of the invitation" [ -e "$box/invite.json" -o -e "$box/state/borgios-bootstrap.invitation" ]
    join; expect "$program: the next join is a member's" 10 'a member already' ran
    check "$program: and nothing of it is left" [ -z "$(ls -d "$box/invite.json" "$box"/state/*invitation* 2>/dev/null)" ]
done
# One of another run is no business of a member's join.
invitation; join; check a_member_keeps_what_it_was_not_done_with [ -s "$box/invite.json" ]

# What the receipt needs is there before the purge, so that a boot can make it, and until it is made.
fresh; echo 'cp "$box/state/node" "$box/noted"; cp "$box/state/owner.pub" "$box/noted.owner"' >"$box/apply-does"
echo 'receipt 5' >"$box/goes-wrong"
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes --owner-key "$box/keys/owner.pub"
check the_node_is_noted_before_the_purge [ "$(cat "$box/noted")" = 'ssh-ed25519 AAAAnode' ]
check and_the_owners_key_too [ "$(cat "$box/noted.owner")" = "$(cut -d' ' -f1,2 "$box/keys/owner.pub")" ]
check both_stay_until_there_is_a_receipt [ -s "$box/state/node" -a -s "$box/state/owner.pub" -a -x "$box/state/keeper" ]
rm "$box/goes-wrong" "$box/apply-does" "$box/noted" "$box/noted.owner"; join
check and_go_with_it [ ! -e "$box/state/node" -a ! -e "$box/state/owner.pub" -a ! -e "$box/state/keeper" ]

# Members, and joins that were cut off.
fresh; mkdir "$box/keeper"; : >"$box/keeper/keeper.key"; join
expect a_member_cannot_join_again 10 'a member already' not-run
bootstrap plan; expect plan_knows_a_member 10 'a member already' not-run
bootstrap status; expect status_of_a_member 0 'member' not-run
fresh; mkdir "$box/keeper" "$box/state"; : >"$box/keeper/keeper.key"; echo 'install 2026-01-01' >"$box/state/stage"; join
expect a_join_cut_off_goes_on 0 'going on' ran
killed() { # VERB SIGNAL: the process that asks the keeper for VERB dies of it
    fresh; echo "kill -$2 \$PPID; [ '$2' != KILL ] || exit 1" >"$box/$1-does"
    # The installer's parent is the `timeout` that bounds it.
    [ "$1" != install ] || echo "kill -$2 \$(cut -d' ' -f4 /proc/\$PPID/stat)" >"$box/$1-does"
    [ "$1" != install ] || echo "mkdir -p '$box/keeper'; : >'$box/keeper/keeper.key' '$box/installed'" >>"$box/$1-does"
    join
}
killed install TERM; expect a_join_ended_by_a_signal_cleans_up 143 'running the verified installer' ran
rm -f "$box"/*-does; echo 'exit 10' >"$box/install-does"; join; expect and_goes_on_when_asked_again 0 'going on' ran
check with_the_backup_it_had [ "$(grep -c '^takeover begin' "$box/asked")" = 1 ]
killed trial KILL; rm -f "$box"/*-does; echo 60 >"$box/left"; join; expect a_deadline_that_is_near_begins_anew 0 RECEIPT ran
check so_that_the_timer_does_not_fire_into_it [ "$(verbs | tr ' ' '\n' | grep -c -e begin -e abort)" = 3 ]
for verb in trial apply rotate receipt; do
    killed "$verb" KILL
    [ "$rc" = 5 ] && [[ $out == *'was cut off at'* ]] && echo "ok killed at $verb: it is said" ||
        { echo "FAIL killed at $verb: code $rc"; failures=$((failures + 1)); }
    rm -f "$box"/*-does; join; expect "killed at $verb: the next join goes on" 0 RECEIPT ran
    check "killed at $verb: handed over" [ "$(cut -d' ' -f1 "$box/state/stage"):$(cat "$box/taken")" = joined:done ]
done
killed trial KILL; rm -f "$box"/*-does
bootstrap join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes --owner-key "$box/keys/owner.pub"
expect an_owners_key_that_comes_later_begins_anew 0 'owner-backup.age' ran
check with_a_sealed_backup [ "$(asked_for begin):$(cat "$box/state/owner-backup.age")" = 2:sealed ]
killed trial KILL; rm -f "$box"/*-does
elsewhere=sha256:$(printf 'elsewhere' | sha256sum | cut -d' ' -f1)
network=$elsewhere invitation; release "$elsewhere"; pack; join
expect another_network_begins_anew 0 'other inputs' ran
check and_what_the_first_installed_is_gone_first [ "$(verbs)" = 'plan begin install trial plan abort begin install trial apply rotate verify receipt end-sessions rotate apply verify ' ]
# Whatever invitation the join after the purge was given: the receipt is the keeper's word.
killed receipt KILL; rm -f "$box"/*-does
network=$elsewhere invitation 'name="other"' "allowed_signers=\"governors namespaces=\\\"borgios-*@v1\\\" $(cut -d' ' -f1,2 "$box/keys/other.pub")\""
join; expect a_receipt_after_another_invitation 0 RECEIPT ran
check names_the_network_that_was_signed grep -qx "  network     $network" "$box/state/receipt.txt"
check and_the_board_of_the_doors grep -qx "  board       $(ssh-keygen -lf "$box/keys/board.pub" | cut -d' ' -f2)" "$box/state/receipt.txt"
killed trial KILL; rm -f "$box"/*-does; bootstrap abort; back abort_of_a_join_that_was_killed 'as it was before' 0
bootstrap abort; expect abort_twice 0 'nothing to bring back' ran
fresh; bootstrap abort; expect abort_without_a_join 0 'nothing to bring back' not-run

for verb in begin trial apply; do
    fresh; echo 'kill -HUP $PPID' >"$box/$verb-does"; join
    expect "a hang-up during $verb ends nothing" 0 RECEIPT ran
done

# A join that runs: its terminal may close, another join shows it, abort ends it.
fresh; mkdir "$box/state"; exec 8>"$box/state/lock"; flock 8
out=$(on_server setsid -w /bin/sh "$script" join --invite "$box/invite.json" --hand-over web-3 2>&1 </dev/null); rc=$?
expect two_at_once 3 'another bootstrap.sh is running' not-run
exec 8>&-
gate() { # the trial waits until $box/gate is there
    fresh; rm -f "$box/gate"; echo "until [ -e '$box/gate' ]; do /bin/sleep 0.05; done" >"$box/trial-does"
    on_server setsid /bin/sh "$script" join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes \
        >"$box/first" 2>&1 </dev/null &
    first=$!
    for _ in $(seq 1200); do grep -q '^trial ' "$box/state/stage" 2>/dev/null && grep -q 'From here on' "$box/first" && break; /bin/sleep 0.05; done
}
ours="^/bin/sh $script join .*$box/" # not those of another run beside this one
foreground() { pgrep -f "$ours" | head -n 1; } # the oldest: the other one is its fork
gate; kill -HUP "$(foreground)"; wait "$first"
check a_closed_terminal_ends_what_is_shown [ ! -e "$box/state/join.exit" ]
# The gate opens once the second terminal shows the join: one that comes after its end finds a member.
for _ in $(seq 1200); do ! grep -q '== install' "$box/second" 2>/dev/null || break; /bin/sleep 0.05; done && : >"$box/gate" &
out=$(on_server setsid -w /bin/sh "$script" join --invite "$box/invite.json" --hand-over web-3 2>&1 </dev/null | tee "$box/second"; exit "${PIPESTATUS[0]}"); rc=$?
at_rest
expect another_join_shows_the_whole_of_it 0 'running the verified installer' ran
said to_its_end 'logins that are still open'
check it_was_handed_over grep -qx "done" "$box/taken"
# The second after which a terminal believes that nobody is at work lasts no time here, as sleep is a
# stub; still it must not believe it while abort is about to be.
gate; stub systemctl "case \$1 in kill) pgrep -f '$ours' | tail -n +2 | xargs kill -9; : >'$box/gate'; /bin/sleep 1 ;; esac"
bootstrap abort; expect abort_ends_a_join_that_runs 0 'as it was before' ran
wait "$first"; code=$?
check and_its_terminal_is_told [ "$code" = 6 ]
machine; bootstrap status; expect status_of_a_stranger 0 'not a member' not-run

# By a pipe, as from a web server, and in the emptiest of environments, as from cloud-init.
fresh; out=$(on_server setsid -w /bin/sh -s join --invite "$box/invite.json" --bundle "$box/bundle.tar" --hand-over web-3 --yes <"$script" 2>&1); rc=$?; at_rest
expect a_piped_script_joins 0 RECEIPT ran
fresh; out=$(cd / && env -i BORGIOS_BOOTSTRAP_DIR="$box/state" BORGIOS_KEEPER_DIR="$box/keeper" BORGIOS_CLI="$box/bin/borgios" \
    BORGIOS_OS_RELEASE="$box/os-release" BORGIOS_SOFTWARE_DIR="$box/software" BORGIOS_AGENT_DIR="$box/agent" "$(command -v bash)" -c "PATH=$box/bin:/usr/bin:/bin; export PATH; exec setsid -w /bin/sh '$script' join \
    --invite '$box/invite.json' --bundle '$box/bundle.tar' --hand-over web-3 --yes <&-" 2>&1); rc=$?; at_rest
expect no_home_no_terminal_no_input 0 RECEIPT ran
SHELL_UNDER_TEST=/bin/bash; fresh; join; expect bash_runs_it_too 0 RECEIPT ran
if command -v busybox >/dev/null; then
    SHELL_UNDER_TEST='busybox sh'; fresh; join; expect busybox_runs_it_too 0 RECEIPT ran
else
    echo "skip busybox_runs_it_too: no busybox here"
fi
finish

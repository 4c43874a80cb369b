#!/bin/bash
# Hostile and broken invitations: bounded, refused before anything is fetched, never a hang.
# shellcheck disable=SC2119,SC2016,SC1003
# shellcheck source=tests/bootstrap/fixture.sh
. "$(dirname "${BASH_SOURCE[0]}")/fixture.sh"

machine; release; pack
line="governors namespaces=\\\"borgios-*@v1\\\" $board_key"
other_key=$(cut -d' ' -f1,2 "$box/keys/other.pub")
# refused NAME TEXT [KEY=JSON…]: an invitation made so is refused, and nothing ran.
refused() {
    local name=$1 text=$2; shift 2
    machine; invitation "$@"; join
    expect "$name" 3 "$text" not-run
}

invitation; join
expect whole_invitation_is_taken 0 RECEIPT ran

machine; invitation "allowed_signers=\"$line\\n\""; join
expect line_with_its_newline_is_taken 0 RECEIPT ran
refused backslash_before_the_newline_is_refused 'allowed_signers' "allowed_signers=\"$line\\\\n\""
refused escaped_newline_cannot_add_a_signer 'allowed_signers' "allowed_signers=\"$line\\ngovernors $other_key\""
refused raw_newline_cannot_add_a_signer 'allowed_signers' "allowed_signers=\"$line
governors $other_key\""
refused second_key_on_the_line_is_refused 'allowed_signers' "allowed_signers=\"$line $other_key\""
refused certificate_authority_option_is_refused 'allowed_signers' "allowed_signers=\"governors cert-authority $board_key\""
refused wildcard_principal_is_refused 'allowed_signers' "allowed_signers=\"* namespaces=\\\"borgios-*@v1\\\" $board_key\""
refused other_key_types_are_refused 'allowed_signers' "allowed_signers=\"governors namespaces=\\\"borgios-*@v1\\\" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==\""
refused command_substitution_is_text 'allowed_signers' "allowed_signers=\"\$(touch $box/installed)\""
refused missing_allowed_signers 'allowed_signers' allowed_signers=
refused missing_network 'network' network=
refused missing_name "network's name" name=
refused missing_signed_part 'no signed invitation' invitation=
refused number_in_a_strings_place 'network' network=7
refused name_with_terminal_codes 'not JSON text' "name=\"$(printf 'de\033[2Jmo')\""
refused name_with_spaces_and_quotes "network's name" 'name="a\" $(id) b"'
refused signed_part_of_another_network 'another network' "network=\"sha256:$(printf x | sha256sum | cut -d' ' -f1)\""
refused field_given_twice 'allowed_signers' "name=\"demo\",\"allowed_signers\":\"governors $other_key\""

payload() { # ISSUED EXPIRES
    echo "invitation={\"type\":\"invitation\",\"payload\":\"{\\\"network\\\":\\\"$network\\\",\\\"issued\\\":$1,\\\"expires\\\":$2}\",\"sigs\":[]}"
}
refused expired_invitation 'expired' "$(payload $((now - 100)) $((now - 10)))"
refused clock_before_the_invitation 'set the clock' "$(payload $((now + 4000)) $((now + 9000)))"
refused expiry_that_is_no_number 'not a number' "$(payload "$now" '\"soon\"')"
refused expiry_beyond_every_clock 'not a number' "$(payload "$now" 99999999999999999999)"

# broken NAME: whatever lies in invite.json now is refused within the fixture's 60 s.
broken() { machine; join; expect "$1" 3 'invitation' not-run; }
invitation; head -c 8388609 /dev/zero | tr '\0' ' ' >>"$box/invite.json"; broken larger_than_eight_mebibytes
printf 'not json at all' >"$box/invite.json"; broken text_that_is_no_json
: >"$box/invite.json"; broken empty_file
printf '[]' >"$box/invite.json"; broken list_in_an_objects_place
head -c 1048000 /dev/urandom >"$box/invite.json"; broken random_bytes
{ printf '{"name":"'; head -c 1000000 /dev/zero | tr '\0' '"'; } >"$box/invite.json"; broken a_million_quotes
{ printf '{"name":"'; head -c 1000000 /dev/zero | tr '\0' '\\'; } >"$box/invite.json"; broken a_million_backslashes
{ printf '{"name":"'; head -c 500000 /dev/zero | sed 's/\x00/\\"/g'; printf '"}'; } >"$box/invite.json"; broken half_a_million_escaped_quotes
head -c 1000000 /dev/zero | tr '\0' '[' >"$box/invite.json"; broken a_million_brackets
{ printf '{"a":'; head -c 1000000 /dev/zero | tr '\0' '1'; printf '}'; } >"$box/invite.json"; broken a_million_digits
invitation; printf '{}' >>"$box/invite.json"; broken second_object_after_the_first
invitation; sed -i 's/,"token"/,,"token"/' "$box/invite.json"; broken empty_member
rm -f "$box/invite.json"; mkfifo "$box/invite.json"; broken fifo; rm -f "$box/invite.json"
ln -s /dev/zero "$box/invite.json"; broken endless_device; rm -f "$box/invite.json"
broken absent_file

# No prefix of an invitation is one.
invitation; cp "$box/invite.json" "$box/whole.json"
size=$(($(wc -c <"$box/whole.json") - 2)) # without "}\n"
bad=''
for i in $(seq 0 40); do
    machine; head -c $((i * size / 40)) "$box/whole.json" >"$box/invite.json"; join
    [ "$rc" = 3 ] && [ ! -e "$box/asked" ] && [ ! -e "$box/installed" ] || bad="$bad $((i * size / 40)):$rc"
done
check no_prefix_of_an_invitation_is_taken [ -z "$bad" ]

# plan shows what the invitation says and changes nothing.
machine; invitation; bootstrap plan --invite "$box/invite.json"
expect plan_shows_network_and_key 0 "$(ssh-keygen -lf "$box/keys/board.pub" | cut -d' ' -f2)" not-run
check plan_leaves_nothing [ ! -e "$box/state" ]
finish

#!/bin/bash
# What bootstrap.sh must refuse to run: every way a bundle can differ from what the board signed.
# shellcheck source=tests/bootstrap/fixture.sh
. "$(dirname "${BASH_SOURCE[0]}")/fixture.sh"

fresh() { machine; invitation; release "$@"; pack; }
flip() { # FILE OFFSET: one bit
    local byte; byte=$(od -An -tu1 -j "$2" -N1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

fresh; join
expect signed_bundle_is_installed 0 'RECEIPT' ran
check installer_got_its_arguments grep -qx "install --bundle .*/bundle.tar --invite .*/invite.json --name web-3" "$box/installed"
check no_secret_in_any_argv bash -c "grep -aq installer '$box/argv' && ! grep -aq '$secret' '$box/argv'"
check receipt_is_kept grep -q "network     demo, $network" "$box/state/receipt.txt"

fresh; sign other borgios-release@v1; pack; join
expect another_key_is_refused 4 'NOT signed by the board' not-run
fresh; sign board borgios-policy@v1; pack; join
expect another_namespace_is_refused 4 'NOT signed by the board' not-run
fresh; flip "$box/b/release.json" 40; pack; join
expect flipped_bit_in_release_is_refused 4 'NOT signed by the board' not-run
fresh; sed -i '3{s/^A/B/;t;s/^./A/}' "$box/b/release.json.sig"; pack; join
expect changed_signature_is_refused 4 'NOT signed by the board' not-run
fresh; : >"$box/b/release.json.sig"; pack; join
expect empty_signature_is_refused 4 'NOT signed by the board' not-run
fresh; head -c 70000 /dev/zero | tr '\0' ' ' >>"$box/b/release.json"; sign board borgios-release@v1; pack; join
expect oversized_release_is_refused 4 'too long' not-run

fresh; flip "$box/b/installer" 30; pack; join
expect flipped_bit_in_installer_is_refused 4 'tampered' not-run
fresh; printf '#!/bin/sh\ntouch "%s/installed"\n' "$box" >"$box/b/installer"; pack; join
expect another_installer_is_refused 4 'tampered' not-run
fresh; cp "$box/agent.tar.zst" "$box/b/installer"; pack; join
expect component_in_the_installers_place_is_refused 4 'tampered' not-run
fresh; for blob in "$box"/b/blobs/*; do flip "$blob" 3; break; done; pack; join
expect flipped_bit_in_component_is_refused 4 'tampered' not-run
fresh; echo extra >"$box/x"; cp "$box/x" "$box/b/blobs/$(sha256sum <"$box/x" | cut -d' ' -f1)"; pack; join
expect component_nobody_signed_is_refused 4 'tampered' not-run
fresh; for blob in "$box"/b/blobs/*; do rm "$blob"; break; done; pack; join
expect missing_component_is_refused 4 'lacks component' not-run

fresh "sha256:$(printf 'elsewhere' | sha256sum | cut -d' ' -f1)"; join
expect release_of_another_network_is_refused 4 'another network' not-run
fresh "$network" policy; join
expect policy_in_a_releases_place_is_refused 4 'no release' not-run
fresh "$network" release $((now - 10)); join
expect expired_release_is_refused 4 'expired' not-run

# A bundle that is older than what the invitation knows: said before the consent.
knows() { # TYPE START: an invitation whose chain holds one statement of that kind, which begins so
    machine; release; pack
    invitation "chain=[{\"type\":\"$1\",\"payload\":\"{\\\"network\\\":\\\"$network\\\",$2,\\\"round\\\":0}\",\"sigs\":[]}]"
}
knows release '\"lane\":\"release\",\"seq\":12'; join
expect a_bundle_that_is_older_is_refused 4 'release/1 is older than release/12' not-run
bootstrap plan --invite "$box/invite.json" --bundle "$box/bundle.tar"
expect and_plan_says_it_beforehand 4 'ask for a newer bundle' not-run
knows release '\"lane\":\"release\",\"seq\":1'; join
expect the_newest_that_the_invitation_knows 0 RECEIPT ran
knows policy '\"lane\":\"policy\",\"seq\":2,\"body\":{\"rulings\":[{\"lane\":\"release\",\"seq\":12}]}'; join
expect what_a_policy_rules_on_is_no_release 0 RECEIPT ran
knows release '\"lane\":\"release\",\"seq\":12'
echo '[{"payload":"{\"body\":{\"rulings\":[{}]}}"}]' >"$box/b/chain.json"; pack; join
expect what_the_bundles_chain_rules_on_is_for_the_installer 0 RECEIPT ran

fresh; echo x >"$box/b/extra"; tar -rf "$box/bundle.tar" -C "$box/b" extra; join
expect unknown_file_in_bundle_is_refused 4 'no bundle has' not-run
fresh; echo x >"$box/evil"; tar -rPf "$box/bundle.tar" --transform 's#.*#../evil#' "$box/evil"; rm "$box/evil"; join
expect path_out_of_the_bundle_is_refused 4 'no bundle has' not-run
fresh; mv "$box/b/chain.json" "$box/c"; ln -s /etc/passwd "$box/b/chain.json"; pack; join
expect link_in_bundle_is_refused 4 'plain files' not-run
# A few bytes that unpack to gigabytes, and an owner's name that moves the size to another column.
fresh; truncate -s 3G "$box/b/installer"
tar --sparse --owner='a b:1' -cf "$box/bundle.tar" -C "$box/b" release.json release.json.sig chain.json blobs installer; join
expect size_behind_an_odd_owner_is_refused 4 "the bundle's files are longer than" not-run
fresh; tar -rf "$box/bundle.tar" -C "$box/b" installer; join
expect name_given_twice_is_refused 4 'twice' not-run
fresh; rm "$box/b/chain.json"; tar -cf "$box/bundle.tar" -C "$box/b" release.json release.json.sig blobs installer; join
expect missing_chain_is_refused 4 'no chain.json' not-run
fresh; truncate -s 3000 "$box/bundle.tar"; join
expect bundle_cut_short_is_refused 4 'bundle' not-run
fresh; head -c 4096 /dev/urandom >"$box/bundle.tar"; join
expect random_bundle_is_refused 4 'not an uncompressed tar' not-run
fresh; gzip -c "$box/bundle.tar" >"$box/x"; mv "$box/x" "$box/bundle.tar"; join
expect compressed_bundle_is_refused 4 'not an uncompressed tar' not-run
fresh; rm "$box/b/chain.json"; truncate -s 3G "$box/b/chain.json"
tar -Scf "$box/bundle.tar" -C "$box/b" release.json release.json.sig chain.json blobs installer; join
expect sparse_giant_is_refused 4 'longer than' not-run
fresh; rm "$box/bundle.tar"; join
expect absent_bundle_is_refused 3 'missing' not-run

# By url: curl is asked for the first one, over http or https only.
fresh; stub curl "while [ \$# -gt 1 ]; do [ \"\$1\" = --output ] && out=\$2; shift; done; echo \"\$1\" >'$box/asked'; cp '$box/bundle.tar' \"\$out\""
invitation 'urls=["http://10.0.0.1/bundle.tar","http://10.0.0.2/b"]'
bootstrap join --invite "$box/invite.json" --hand-over web-3 --yes
expect bundle_from_the_invitations_url 0 'downloaded http://10.0.0.1/bundle.tar' ran
check first_url_was_asked grep -qx http://10.0.0.1/bundle.tar "$box/asked"
# A server that says no length sends for as long as it is taken.
endless() { stub curl "while [ \$# -gt 1 ]; do [ \"\$1\" = --output ] && out=\$2; shift; done; head -c 64M /dev/zero >\"\$out\"; code=\$?; wc -c <\"\$out\" >'$box/got'; exit \$code"; }
machine; invitation 'urls=["http://10.0.0.1/b"]'; endless
BORGIOS_BUNDLE_MAX=1000000 bootstrap join --invite "$box/invite.json" --hand-over web-3 --yes
expect a_download_without_an_end_is_refused 3 'longer than 1000000 bytes' not-run
check and_ends_at_the_bound [ "$(cat "$box/got")" = 1000001 ]
machine; invitation 'urls=["http://10.0.0.1/b"]'; endless; stub df 'printf "h\nx 1 1 525288 1%% /\n"'
bootstrap join --invite "$box/invite.json" --hand-over web-3 --yes
expect what_join_wants_of_the_disk_stays_free 3 'longer than 1024000 bytes' not-run
check and_it_ends_there [ "$(cat "$box/got")" = 1024001 ]
stub df 'printf "h\nx 1 1 524288 1%% /\n"'; bootstrap join --invite "$box/invite.json" --hand-over web-3 --yes
expect no_room_no_download 3 'too few to download' not-run; rm "$box/bin/df"
machine; invitation 'urls=["file:///etc/passwd"]'; bootstrap join --invite "$box/invite.json" --hand-over web-3 --yes
expect other_schemes_are_refused 3 'not http or https' not-run
machine; invitation; bootstrap join --invite "$box/invite.json" --hand-over web-3 --yes
expect no_bundle_and_no_url_is_refused 3 'no --bundle FILE' not-run
finish

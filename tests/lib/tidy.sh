#!/usr/bin/env bash
# What no tool checks: arrows between crates, headers, file lengths, names, paths of one computer.
#
# Each tidy_* prints its offenders, one per line, and passes when there are none.

FILE_LINES_MAX=600
# Which crate may use which other crates of ours: the arrows of ARCHITECTURE.md.
arrows() {
    case $1 in
        borgios-types)    echo "" ;;
        borgios-peertree) echo "types" ;;
        borgios-model)    echo "types peertree" ;;
        borgios-stream)   echo "types" ;;
        borgios-policy)   echo "types" ;;
        borgios-credentials) echo "types policy" ;;
        borgios-releases) echo "types policy" ;;
        borgios-relay)    echo "types stream" ;;
        borgios-bench)    echo "types stream relay policy" ;;
        borgios-agent)    echo "types peertree stream policy credentials releases relay" ;;
        borgios-cli)      echo "types peertree stream policy credentials releases" ;;
        borgios-fleet)    echo "types peertree stream policy credentials releases agent cli" ;;
        borgios-fuzz)     echo "types peertree stream policy credentials releases relay agent cli" ;;
        borgios-guided)   echo "fuzz" ;;
        peer-*|peers-*) echo "" ;;           # a workspace of its own, which uses nothing of ours
        *) return 1 ;;
    esac
}

tidy() {
    check "tidy: arrows between crates" none tidy_arrows
    check "tidy: a header in every file" none tidy_headers
    check "tidy: no file over $FILE_LINES_MAX lines" none tidy_lengths
    check "tidy: no catch-all names" none tidy_names
    check "tidy: no path of a developer's computer" none tidy_paths
    check "tidy: no ignored tests" none tidy_ignored
    check "tidy: a test for each attack on what is signed" none tidy_rows
}
none() { local out; out=$("$1"); [[ -z $out ]] || { echo "$out"; return 1; }; }

tidy_arrows() {
    local f crate may dep
    for f in $(sources '*Cargo.toml'); do
        crate=$(sed -n '/^\[package\]/,/^\[/s/^name *= *"\(.*\)"/\1/p' "$f")
        [[ -n $crate ]] || continue
        may=$(arrows "$crate") || { echo "$f: $crate has no arrows yet: give it a line in tests/lib/tidy.sh"; continue; }
        for dep in $(crates_used "$f"); do
            # a crate may name itself: that is how its tests get its own features
            [[ " $may " == *" $dep "* || borgios-$dep == "$crate" ]] || echo "$f: $crate may not use borgios-$dep"
        done
    done
}
crates_used() {                     # the crates of ours that a Cargo.toml names, in any of its dependency tables
    awk '/^\[/ { deps = /dependencies/; if (match($0, /dependencies\.borgios-[a-z]+/)) print substr($0, RSTART + 21, RLENGTH - 21); next }
         deps && match($0, /^"?borgios-[a-z]+/) { s = substr($0, RSTART, RLENGTH); sub(/.*borgios-/, "", s); print s }' "$1" | sort -u
}
tidy_headers() {
    local f
    for f in $(sources '*.rs'); do
        [[ "$(head -n 1 "$f")" =~ ^//[!/]?\ .{8} ]] || echo "$f: line 1 is no header comment"
    done
    for f in $(sources '*.sh' .ci/run); do
        # after the #! line, or at the top of a file that is only sourced
        [[ "$(sed -n '1,2p' "$f")" =~ (^|$'\n')#\ .{8} ]] || echo "$f: no header comment"
    done
    for f in $(sources '*.py'); do
        [[ "$(sed -n '1,2p' "$f")" =~ (\"\"\"|\#\ ).{8} ]] || echo "$f: no header comment"
    done
}
tidy_rows() {                       # t01 to t50: signatures, versions, policies, time, relays, blobs, FROST
    local n named
    named=$(sources '*.rs' | tr '\n' '\0' | xargs -0 cat | rows_tested | sort -u)
    for n in $(seq -w 1 50); do
        grep -qx "fn t${n}_" <<<"$named" || echo "t$n: no test by that name"
    done
}
# The `fn tNN_` that cargo runs: under an attribute that makes them tests, not in a comment or a string.
rows_tested() {
    awk '/^[[:space:]]*#\[(tokio::)?test[](]/ { test = 1; next }
         test && /^[[:space:]]*(#\[|\/\/)/ { next }
         test && match($0, /^[[:space:]]*(async )?fn t[0-9][0-9]_/) { print substr($0, RSTART + RLENGTH - 7, 7) }
         { test = 0 }'
}
tidy_lengths() {
    local f n
    for f in $(sources '*.rs' '*.sh' '*.py'); do
        [[ $f != bootstrap.sh ]] || continue     # one file by need: it travels alone, and is read before it is run
        n=$(wc -l <"$f"); ((n <= FILE_LINES_MAX)) || echo "$f: $n lines; look for the second concept"
    done
}
tidy_names() { sources '*.rs' '*.sh' '*.py' | grep -E '(^|/)(utils?|commons?|helpers?|managers?|handlers?|misc)(\.[a-z]+$|/)'; }
tidy_paths() {
    # the classes keep this pattern from finding itself
    sources | grep -v -e '^Cargo.lock$' | tr '\n' '\0' |
        xargs -0 grep -nIE '/[U]sers/[A-Za-z]|(^|[^A-Za-z0-9_.-])/[w]ork/|(^|[^A-Za-z0-9_.-])/[f]arm/|/[h]ome/[a-z]+/(src|code|git|dev|projects)'
}
tidy_ignored() { sources '*.rs' | tr '\n' '\0' | xargs -0 grep -nE '^[[:space:]]*#\[ignore'; }

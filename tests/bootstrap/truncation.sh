#!/bin/bash
# No part of bootstrap.sh runs when a shell receives only the beginning of it.
#
# 400 prefixes spread over the file are given to dash and bash, as a file and on stdin, and those at
# every end of a line to dash, without arguments, in an empty folder where every command on the PATH
# is a stub that records its name. What runs shows as a record, as output, as a file, or as "not
# found". Prints `ok NAME` or `FAIL NAME: why`.
set -u
shopt -s nullglob dotglob
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
script=$here/bootstrap.sh
box=$(mktemp -d) || exit 1
trap 'rm -rf "$box"' EXIT
mkdir "$box/bin" "$box/cwd"
cat >"$box/stub" <<STUB
#!/bin/sh
echo "\${0##*/}" >>"$box/ran"
STUB
chmod +x "$box/stub"
for dir in /usr/bin /bin /usr/sbin /sbin; do
    for tool in "$dir"/*; do
        name=${tool##*/}
        case $name in '[') continue ;; esac
        [ -e "$box/bin/$name" ] || ln -s ../stub "$box/bin/$name"
    done
done

size=$(wc -c <"$script")
# From the brace that closes the file on, the script is whole and may explain itself.
whole=$((size - 1))
spread=$(for i in $(seq 0 400); do echo $((i * size / 400)); done | sort -un)
lines=$(LC_ALL=C awk '{ n += length($0) + 1; print n }' "$script")

failed=0 tried=0
fail() { echo "FAIL truncation: $*"; failed=$((failed + 1)); }
try() { # SHELL HOW CUT
    local shell=$1 how=$2 cut=$3 out made
    : >"$box/ran"
    case $how in
        file) out=$(cd "$box/cwd" && env -i PATH="$box/bin" "$shell" "$box/part" 2>"$box/err" </dev/null) ;;
        pipe) out=$(cd "$box/cwd" && env -i PATH="$box/bin" "$shell" 2>"$box/err" <"$box/part") ;;
    esac
    tried=$((tried + 1))
    if [ "$cut" -lt "$whole" ]; then
        [ ! -s "$box/ran" ] || fail "$shell, $how, $cut of $size bytes: ran $(tr '\n' ' ' <"$box/ran")"
        [ -z "$out" ] || fail "$shell, $how, $cut of $size bytes: printed $out"
    else
        [ "$(sort -u "$box/ran")" = cat ] || fail "$shell, $how, whole: ran $(tr '\n' ' ' <"$box/ran")"
    fi
    [[ "$(<"$box/err")" != *'not found'* ]] || fail "$shell, $how, $cut of $size bytes: $(<"$box/err")"
    made=("$box"/cwd/*)
    [ ${#made[@]} = 0 ] || { fail "$shell, $how, $cut of $size bytes: made a file"; rm -rf "$box/cwd"; mkdir "$box/cwd"; }
}

for cut in $spread; do
    head -c "$cut" "$script" >"$box/part"
    try /bin/dash file "$cut"
    try /bin/dash pipe "$cut"
    try /bin/bash file "$cut"
    try /bin/bash pipe "$cut"
done
for cut in $lines; do
    head -c "$cut" "$script" >"$box/part"
    try /bin/dash file "$cut"
done
[ "$failed" -eq 0 ] && echo "ok truncation: $tried runs of prefixes ran nothing"

# The means by which this is so: one brace group, opened before the first command, ending in exit.
first=$(grep -nv -e '^#' -e '^$' "$script" | head -n 1 | cut -d: -f2-)
last=$(tail -n 2 "$script" | tr '\n' ' ')
if [ "$first" = '{' ] && [ "$last" = 'exit $? } ' ]; then echo "ok one_brace_group"
else echo "FAIL one_brace_group: begins with '$first', ends with '$last'"; failed=1; fi
[ "$failed" -eq 0 ]

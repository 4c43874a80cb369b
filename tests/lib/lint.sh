#!/usr/bin/env bash
# Stages fmt and lint.

stage_fmt() { check rustfmt cargo fmt --all --check -- --color=never; }

stage_lint() {
    check clippy cargo clippy --workspace --all-targets --locked -q -- -D warnings
    check shellcheck lint_shell
    tidy
}
lint_shell() { sources '*.sh' .ci/run | tr '\n' '\0' | xargs -0 shellcheck -x; }

# The project's files: what git knows, and what it does not know yet; generated folders never.
sources() { git -c safe.directory="$ROOT" ls-files -co --exclude-standard -- "$@" | while read -r f; do [[ -f $f ]] && echo "$f"; done; }

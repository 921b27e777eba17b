#!/bin/sh
# Fuzzes each target in turn, one process at a time: run.sh MINUTES [TARGET…]
#
# MINUTES are for all targets together. The compiler is the house's own, so its fuzzing support has to be
# asked for by RUSTC_BOOTSTRAP; without a nightly compiler there is no address sanitizer, and nothing here
# is unsafe. Inputs are kept in corpus/, what failed in artifacts/.
set -eu
minutes=${1:?minutes}
shift
cd "$(dirname "$0")/../.."
here=tests/fuzz
[ $# -gt 0 ] || set -- sse json answer stream request form audio
export RUSTC_BOOTSTRAP=1 CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}"
seconds=$((minutes * 60 / $#))
failed=0
for target; do
    mkdir -p "$here/corpus/$target"
    cargo fuzz run --fuzz-dir "$here" --target-dir target/fuzz --sanitizer none \
        "$target" "$here/corpus/$target" "$here/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 \
        -dict="$here/words.dict" -print_final_stats=1 || failed=1
done
exit $failed

# The boots of this commit beside those of another one, in turns; sourced by run.sh.

before() {
    local tree=$work/before mode turn figure ours=$bootwright our_out
    git worktree prune
    [ -e "$tree/.git" ] || git worktree add --detach "$tree" "${BEFORE:?a commit to compare with, such as BEFORE=v0.1.0}" >/dev/null
    git -C "$tree" checkout --quiet --detach "$BEFORE"
    cargo build --quiet --release --locked --manifest-path "$tree/Cargo.toml" --target-dir "$tree/target"
    tree=$(realpath "$tree")
    work=$(realpath "$work"); our_out=$(realpath "$out")
    declare -A now then
    for _ in $(seq "$boots"); do
        for mode in ram nbd iscsi nfs; do
            for turn in now then; do
                case $turn in
                now) bootwright=$ours out=$our_out ;;
                then) bootwright=$tree/target/release/bootwright out=$tree/out; pushd "$tree" >/dev/null ;;
                esac
                if [ "$mode" = ram ]; then
                    build --recipe worker >/dev/null
                    figure=$(healthy 512)
                else
                    serve worker "$mode"
                    figure=$(healthy_over "$mode" 512)
                    stop_servers
                fi
                case $turn in
                now) now[$mode]+=" $figure" ;;
                then) then[$mode]+=" $figure"; popd >/dev/null ;;
                esac
            done
        done
    done
    bootwright=$ours out=$our_out
    for mode in ram nbd iscsi nfs; do
        local middle was
        middle=$(median ${now[$mode]}); was=$(median ${then[$mode]})
        row "worker, $mode root: kubelet healthy at 512 MiB" "$middle s" "$(awk -v a="$middle" -v b="$was" 'BEGIN { printf "%.2f", a / b }') of at most 1.05 times $(git -C "$tree" log -1 --format=%h) (${now[$mode]# })"
        row "  with that commit" "$was s" "(${then[$mode]# })"
    done
}

# Sourced by scripts that call programs and read what they say; it leaves that in the file `out`.
expect() { # exit code, text that must be printed ("": any), command
    local want=$1 text=$2 code=0
    shift 2
    "$@" >out 2>&1 || code=$?
    if [ "$code" != "$want" ] || { [ -n "$text" ] && ! grep -qF -- "$text" out; }; then
        echo "\"$*\": exit code $code (wanted $want), no \"$text\" in:"
        cat out
        exit 1
    fi
}

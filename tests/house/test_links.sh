#!/usr/bin/env bash
# What the built files ask of others: no program and no library of ours needs a library of CUDA, only
# the plug-in does; and the plug-ins need nothing of ours, which comes through a table (backend.h).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
broken=0
libraries() { # file: those of CUDA that it needs, itself or through another
    ldd "$1" | grep -oE '^\s*lib(cuda|cudart|cublas|cublasLt|cudnn|nccl|nvrtc|nvJitLink)[A-Za-z_]*\.so[.0-9]*' || true
}
symbols() { # file: those of ours that it leaves to others, mangled ones too
    nm -D --undefined-only "$1" | grep -E '(^|[^a-z])fbi?_' || true
}
none() { # check, file
    local found
    found=$("$1" "$2")
    [ -z "$found" ] || {
        echo "$2: $1 of others that it must not need:"
        echo "$found"
        broken=$((broken + 1))
    }
}

# Files that do: they must be found.
cat >"$work/own.c" <<'C'
int fb_planted(void);
int cuLaunch(void);
int fbi_user(void) { return fb_planted() + cuLaunch(); }
C
echo 'int cuLaunch(void) { return 0; }' >"$work/cuda.c"
"$FLAMBEAU_CC" -shared -fPIC -o "$work/libcuda.so.1" -Wl,-soname,libcuda.so.1 "$work/cuda.c"
"$FLAMBEAU_CC" -shared -fPIC -o "$work/libown.so" "$work/own.c" "$work/libcuda.so.1"
none libraries "$work/libown.so" >"$work/said"
none symbols "$work/libown.so" >>"$work/said"
if [ $broken -ne 2 ] || ! grep -q 'libcuda\.so\.1' "$work/said" || ! grep -q 'fb_planted' "$work/said"; then
    echo "what was planted is not found; said:"
    cat "$work/said"
    exit 1
fi

broken=0 files=0
for file in "$FLAMBEAU_BUILD"/bin/* "$FLAMBEAU_BUILD"/lib/libflambeau.so "$FLAMBEAU_BUILD"/lib/libflambeau_cudasim.so; do
    [ -f "$file" ] && [ -x "$file" ] || continue
    none libraries "$file"
    files=$((files + 1))
done
[ "$files" -ge 4 ] || { echo "only $files files to look at in $FLAMBEAU_BUILD"; exit 1; }
for plugin in "$FLAMBEAU_BUILD"/lib/libflambeau_cuda*.so; do
    [ ! -e "$plugin" ] || none symbols "$plugin"
done
exit $((broken > 0))

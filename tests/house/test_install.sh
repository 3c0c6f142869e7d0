#!/usr/bin/env bash
# timeout: 200
# An installation, moved to another folder, serves C and C++ programs by find_package and pkg-config.
set -euo pipefail
if [ -n "${FLAMBEAU_SANITIZE:-}" ]; then
    flags=-fsanitize=$FLAMBEAU_SANITIZE
else
    flags=
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$FLAMBEAU_BUILD" --prefix "$work/first" >"$work/log" || { cat "$work/log"; exit 1; }
mv "$work/first" "$work/moved"
prefix=$work/moved

program='#include <flambeau/flambeau.h>
#include <stdio.h>
int main(void)
{
    fb_context *ctx = fb_context_open(NULL);
    fb_tensor *x = fb_zeros(ctx, FB_F32, FB_SHAPE(2, 3));
    printf("%d elements\n", (int)fb_numel(x));
    return fb_context_close(ctx);
}'
mkdir "$work/user" && cd "$work/user"
echo "$program" >c_user.c
echo "$program" >cxx_user.cpp
cat >CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.22)
project(user LANGUAGES C CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(flambeau 0.1 REQUIRED)
add_executable(c_shared c_user.c)
target_link_libraries(c_shared flambeau::flambeau)
add_executable(c_static c_user.c)
target_link_libraries(c_static flambeau::static)
add_executable(cxx_shared cxx_user.cpp)
target_link_libraries(cxx_shared flambeau::flambeau)
CMAKE
cmake -S . -B b -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" >"$work/log" 2>&1 &&
    cmake --build b >>"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

pc=$(find "$prefix" -name flambeau.pc)
libdir=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$pc")
read -ra shared < <(pkg-config --cflags --libs flambeau)
gcc $flags c_user.c -o pc_shared "${shared[@]}" -Wl,-rpath,"$libdir"
g++ -std=c++20 $flags cxx_user.cpp -o pc_cxx "${shared[@]}" -Wl,-rpath,"$libdir"
read -ra static < <(pkg-config --cflags --static --libs flambeau)
gcc $flags c_user.c -o pc_static "${static[@]/-lflambeau/-l:libflambeau.a}"

for user in b/c_shared b/c_static b/cxx_shared ./pc_shared ./pc_cxx ./pc_static; do
    [ "$("$user")" = "6 elements" ] || { echo "$user printed something else"; exit 1; }
done
# The command came along and finds its library; no private header did.
"$prefix/bin/flambeau" version
if find "$prefix/include" -name '*_priv.h' -o -name backend.h | grep .; then
    echo "private headers were installed"
    exit 1
fi
# Every public header of the sources is there.
cd "$FLAMBEAU_SOURCE"
while read -r header; do
    [ -e "$prefix/include/flambeau/$header" ] || { echo "$header was not installed"; exit 1; }
done < <(sed -nE 's/#include <flambeau\/(.*)>/\1/p' launch/flambeau.h)

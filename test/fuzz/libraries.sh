#!/usr/bin/env bash
# The native part of jazzer.js needs glibc 2.38 and the C++ library of GCC 13. On a Debian that has older ones this puts those of
# Debian 13 into build/libraries, where the fuzzers alone use them; nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
directory="$PWD/build/libraries"
if compgen -G "$directory/usr/lib/*/ld-linux-*" > /dev/null; then
  exit 0
fi
rm -rf "$directory"
mkdir -p "$directory/apt/lists/partial" "$directory/apt/cache/archives/partial"
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep --max-count=1 '/debian/$')
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$directory/apt/sources.list"
apt() {
  apt-get -qq -o Dir::Etc::SourceList="$directory/apt/sources.list" -o Dir::Etc::SourceParts=- \
    -o Dir::State::Lists="$directory/apt/lists" -o Dir::Cache="$directory/apt/cache" -o APT::Sandbox::User=root "$@"
}
apt update
cd "$directory/apt"
apt download libc6 libstdc++6 libgcc-s1
for package in ./*.deb; do
  dpkg-deb --extract "$package" "$directory"
done
rm -rf "$directory/apt"

#!/bin/sh
# split-libtorch.sh PROGRAM LIBTORCH: moves libtorch and CUDA's libraries out of a published program, for a layer of their own,
# and leaves out what only Python and libtorch's own tests use. The program finds them by ADJOINTDPM_LIBTORCH=LIBTORCH.
set -eu
program=$1 libtorch=$2
mkdir -p "$libtorch"
cd "$program"
rm -f libtorch_python.so libtorchbind_test.so libjitbackend_test.so libbackend_with_compiler.so
for file in libtorch*.so* libc10*.so* libgomp* libshm.so libnnapi_backend.so libaoti_custom_ops.so libcud* libnv* libcu* libcaffe2*; do
  [ ! -e "$file" ] || mv "$file" "$libtorch"/
done

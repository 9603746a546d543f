// cuBLASLt without a card: what kernels/cuda/blas.cc calls, for the emulated runtime's devices.
//
// Stricter than the library where it leaves things undefined: operands must lie in the memory of
// the stream's device, an algorithm must have been chosen for the very shape, and the workspace is
// overwritten.
#pragma once

namespace sluice::simt {

// The emulated function of this name; null if there is none.
void* FindBlasFunction(const char* name);

}  // namespace sluice::simt

// Names the form this translation unit is compiled for. Every *.cc of this folder is compiled once
// a form, with that form's machine options, into the namespace sluice::cpu::SLUICE_ISA.
//
// These files hold nothing inline with external linkage outside that namespace: no std containers
// or algorithms, no member functions of shared structs. The linker keeps one copy of such a
// function for the whole program, and it could be the AVX-512 one. tests/kernels checks the object
// files' symbols.
#pragma once

#if defined(SLUICE_ISA_AVX512)
#define SLUICE_ISA avx512
#elif defined(SLUICE_ISA_AVX2)
#define SLUICE_ISA avx2
#elif defined(SLUICE_ISA_SCALAR)
#define SLUICE_ISA scalar
#else
#error "compile with one of SLUICE_ISA_SCALAR, SLUICE_ISA_AVX2, SLUICE_ISA_AVX512"
#endif

#define SLUICE_INLINE [[gnu::always_inline]] static inline

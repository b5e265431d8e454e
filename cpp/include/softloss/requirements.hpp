// The compiler features that the C++ headers need. A compiler without them prints one error that says so.
//
// Lives here: preprocessor lines alone, which every compiler understands. SOFTLOSS_UNUSABLE leaves out the
// headers that it would not. Must not: declarations.
#pragma once

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 202002L
#error "softloss.hpp needs C++20 (-std=c++20); before that include <softloss/softloss.h>, the C API"
#define SOFTLOSS_UNUSABLE
#endif
#if defined(__clang__)
#if defined(__apple_build_version__) ? __clang_major__ < 14 : __clang_major__ < 15
#error "softloss.hpp needs Clang 15 (Apple Clang 14) or newer"
#define SOFTLOSS_UNUSABLE
#endif
#elif defined(__GNUC__) && __GNUC__ < 11
#error "softloss.hpp needs GCC 11 or newer, and the library GCC 12 to be built"
#define SOFTLOSS_UNUSABLE
#endif

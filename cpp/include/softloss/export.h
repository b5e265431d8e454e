/* SOFTLOSS_API: what a shared library exports; a static one keeps its names to the program that it is linked into.
 *
 * Lives here: this one macro, for C and C++. SOFTLOSS_SHARED comes from the CMake target of the shared library.
 */
#ifndef SOFTLOSS_EXPORT_H
#define SOFTLOSS_EXPORT_H

#if !defined(SOFTLOSS_SHARED)
#define SOFTLOSS_API
#elif !defined(_WIN32)
#define SOFTLOSS_API __attribute__((visibility("default")))
#elif defined(softloss_EXPORTS)
#define SOFTLOSS_API __declspec(dllexport)
#else
#define SOFTLOSS_API __declspec(dllimport)
#endif

#endif

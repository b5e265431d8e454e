"""Conan 2 recipe of the C++ library; `conan create .` builds, packages and tests it.

Lives here: what Conan must know of the library. Must not: its sources, flags and installed files, which are CMake's.
"""

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy


class Softloss(ConanFile):
    name = "softloss"
    description = "Softmax, log-softmax and losses: fast, accurate, the same bits on every CPU"
    license = "MIT"
    topics = ("softmax", "cross-entropy", "simd", "reproducibility")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "openmp": [True, False]}
    default_options = {"shared": False, "openmp": True}
    exports_sources = "CMakeLists.txt", "LICENSE", "cpp/*"
    test_package_folder = "tests/cpp/test_package"

    def set_version(self):
        lists = Path(self.recipe_folder, "CMakeLists.txt").read_text(encoding="utf-8")
        self.version = re.search(r"project\(softloss VERSION ([\d.]+)", lists)[1]

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)  # sets BUILD_SHARED_LIBS by the option `shared`
        toolchain.cache_variables["SOFTLOSS_OPENMP"] = bool(self.options.openmp)
        toolchain.cache_variables["SOFTLOSS_INSTALL"] = True
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder, "licenses"))
        CMake(self).install()

    def package_info(self):
        # CMake projects find the library's own softlossConfig.cmake, which finds the OpenMP of a static library.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/softloss"]
        self.cpp_info.libs = ["softloss"]
        if self.options.shared:
            self.cpp_info.defines = ["SOFTLOSS_SHARED"]
        elif self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread", "m"]
            if self.options.openmp:
                self.cpp_info.sharedlinkflags = self.cpp_info.exelinkflags = ["-fopenmp"]

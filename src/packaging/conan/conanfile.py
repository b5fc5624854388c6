"""A recipe of Conan 2. In the directory of ferry's sources: conan create src/packaging/conan"""
import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir


class FerryConan(ConanFile):
    name = "ferry"
    description = "libevent bufferevents that carry bytes, file descriptors and files"
    license = "MIT"
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "fPIC": [True, False]}
    default_options = {"shared": True, "fPIC": True}

    def set_version(self):
        header = load(self, os.path.join(self.recipe_folder, "../../../include/ferry/version.h"))
        self.version = re.search(r'define FERRY_VERSION "(.+)"', header).group(1)

    def export_sources(self):
        top = os.path.join(self.recipe_folder, "../../..")
        for pattern in ("CMakeLists.txt", "LICENSE", "include/*", "src/*"):
            copy(self, pattern, top, self.export_sources_folder)

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("ferry needs Linux")

    def configure(self):
        self.settings.rm_safe("compiler.libcxx")
        self.settings.rm_safe("compiler.cppstd")
        if self.options.shared:
            self.options.rm_safe("fPIC")

    def requirements(self):
        self.requires("libevent/[>=2.1.12 <3]", transitive_headers=True, transitive_libs=True)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["FERRY_WITH_SYSTEMD"] = "OFF"
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        CMake(self).install()
        rmdir(self, os.path.join(self.package_folder, "lib", "cmake"))
        rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))

    def package_info(self):
        self.cpp_info.components["ferry"].libs = ["ferry"]
        self.cpp_info.components["ferry"].requires = ["libevent::core"]
        self.cpp_info.components["ferry"].set_property("cmake_target_name", "ferry::ferry")
        self.cpp_info.components["ferry"].set_property("pkg_config_name", "ferry")
        if not self.options.shared:
            self.cpp_info.components["ferry"].system_libs = ["pthread"]
        self.cpp_info.components["testing"].libs = ["ferry_testing"]
        self.cpp_info.components["testing"].requires = ["ferry"]
        self.cpp_info.components["testing"].set_property("cmake_target_name", "ferry::testing")
        self.cpp_info.components["testing"].set_property("pkg_config_name", "ferry-testing")

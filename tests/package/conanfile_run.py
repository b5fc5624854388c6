"""Runs the recipe of Conan without Conan, which has no package in Debian: this module stands in for those that the recipe
imports. Takes the sources that the recipe exports, and builds and packages them.

Usage: conanfile_run.py RECIPE DIRECTORY   (by recipes.sh)
"""
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import types

RECIPE, WORK = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])


class Options(dict):
    __getattr__ = dict.__getitem__

    def rm_safe(self, name):
        self.pop(name, None)


class ConanFile:
    def __init__(self):
        self.recipe_folder = str(RECIPE.parent)
        self.export_sources_folder = self.source_folder = str(WORK / "source")
        self.package_folder = str(WORK / "package")
        self.settings = Options(os="Linux", compiler=Options())
        self.options = Options(self.default_options)
        self.required = []
        self.cpp_info = types.SimpleNamespace(components={name: Component() for name in ("ferry", "testing")})

    def requires(self, reference, **_):
        self.required.append(reference)


class Component:
    def __init__(self):
        self.properties = {}

    def set_property(self, name, value):
        self.properties[name] = value


class CMakeToolchain:
    variables = {}

    def __init__(self, recipe):
        self.cache_variables = {"BUILD_SHARED_LIBS": "ON" if recipe.options["shared"] else "OFF"}

    def generate(self):
        CMakeToolchain.variables = self.cache_variables


class CMake:
    def __init__(self, recipe):
        self.recipe = recipe

    def configure(self):
        variables = {**CMakeToolchain.variables, "CMAKE_BUILD_TYPE": "Release",
                     "CMAKE_INSTALL_PREFIX": self.recipe.package_folder}
        self.run("-S", self.recipe.source_folder, "-B", WORK / "build",
                 *(f"-D{name}={value}" for name, value in variables.items()))

    def build(self):
        self.run("--build", WORK / "build", "--parallel", "2")

    def install(self):
        self.run("--install", WORK / "build")

    @staticmethod
    def run(*arguments):
        subprocess.run(["cmake", *arguments], check=True)


def copy(_, pattern, source, destination):
    files = [file for file in pathlib.Path(source).glob(pattern.replace("/*", "/**/*")) if file.is_file()] \
        if "*" in pattern else [pathlib.Path(source) / pattern]
    for file in files:
        target = pathlib.Path(destination) / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if not files:
        sys.exit(f"nothing is {pattern} in {source}")


def module(name, **content):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)


module("conan", ConanFile=ConanFile)
module("conan.errors", ConanInvalidConfiguration=RuntimeError)
module("conan.tools")
module("conan.tools.cmake", CMake=CMake, CMakeToolchain=CMakeToolchain, cmake_layout=lambda recipe: None,
       CMakeDeps=lambda recipe: types.SimpleNamespace(generate=lambda: None))
module("conan.tools.files", copy=copy, load=lambda recipe, path: pathlib.Path(path).read_text(encoding="utf-8"),
       rmdir=lambda recipe, path: shutil.rmtree(path))


def main():
    spec = importlib.util.spec_from_file_location("conanfile", RECIPE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    recipe = loaded.FerryConan()
    for step in ("set_version", "export_sources", "validate", "configure", "requirements", "layout", "generate", "build",
                 "package", "package_info"):
        getattr(recipe, step)()
    package = pathlib.Path(recipe.package_folder)
    for name, component in recipe.cpp_info.components.items():
        for library in component.libs:
            if not list((package / "lib").glob(f"lib{library}.*")):
                sys.exit(f"the package has no library {library} for its component {name}")
    print(f"Conan: {recipe.name} {recipe.version}, with {', '.join(recipe.required)}")


main()

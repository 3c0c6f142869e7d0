"""What the machine has, what was brought, and the environment in which our programs run there."""
import functools
import glob
import os
import pathlib
import re
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LIBRARIES = "lib/x86_64-linux-gnu"
# Compute capability -> the architecture that core/cuda is compiled for; others: the plain number.
ARCHITECTURES = {"9.0": "90a", "10.0": "100a"}
# Header, library and our CMake's names of both: found beside nvcc, else in Python's wheels. cuDNN's and NCCL's
# libraries are opened when a program runs.
NVIDIA = {"cuBLASLt": ("cublasLt.h", "libcublasLt.so", "FLAMBEAU_cublas_INCLUDE", "FLAMBEAU_cublasLt_LIBRARY"),
          "cuDNN": ("cudnn.h", "libcudnn.so", "FLAMBEAU_cudnn_INCLUDE", None),
          "NCCL": ("nccl.h", "libnccl.so", "FLAMBEAU_nccl_INCLUDE", None)}


def said(*command, **more):
    """What a program prints; "" if there is no such program or it fails."""
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return out.stdout.strip() if out.returncode == 0 else ""


def tool(name):
    """A program of the machine: in PATH or in the CUDA toolkit."""
    places = [os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin", "/usr/local/cuda/bin"]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))


def cores():
    """Those that we may use."""
    return len(os.sched_getaffinity(0))


def brought():
    """The folder that tests/gpu/pack put beside the sources; None where they are a plain checkout."""
    usr = SOURCE.parent / "root/usr"
    return usr if (usr / "bin/orted").exists() else None


def commit():
    try:
        return (SOURCE / "COMMIT").read_text().strip()
    except OSError:
        return said("git", "-c", "safe.directory=*", "-C", str(SOURCE), "describe", "--always", "--dirty") or "?"


def cards():
    """[{name, driver, memory, capability}] by nvidia-smi."""
    text = said("nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader")
    rows = (line.split(", ") for line in text.splitlines())
    return [dict(zip(("name", "driver", "memory", "capability"), row)) for row in rows if len(row) == 4]


def architecture(card):
    return ARCHITECTURES.get(card["capability"], card["capability"].replace(".", ""))


def environment(device, build):
    """For our programs and mpirun: Debian's Open MPI from any folder, root welcome, one node, no network."""
    env = dict(os.environ)
    env.update(FLAMBEAU_DEVICE=device, FLAMBEAU_PLUGINS=str(build / "lib"), OMPI_ALLOW_RUN_AS_ROOT="1",
               OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_btl="self,vader", OMPI_MCA_pml="ob1",
               OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
               OMPI_MCA_btl_vader_single_copy_mechanism="none", PMIX_MCA_gds="hash")
    folders = [str(library.parent) for _, library in map(nvidia, NVIDIA) if library]
    usr = brought()
    if usr:
        pmix = usr / LIBRARIES / "pmix2"
        folders = [str(usr / LIBRARIES), f"{pmix}/lib", *folders]
        env.update(PATH=f"{usr}/bin:{env['PATH']}", OPAL_PREFIX=str(usr),
                   OPAL_SYSCONFDIR=str(usr.parent / "etc/openmpi"), PMIX_PREFIX=str(pmix),
                   PMIX_LIBDIR=f"{pmix}/lib", PMIX_PKGLIBDIR=f"{pmix}/lib/pmix", PMIX_DATADIR=f"{pmix}/share",
                   PMIX_PKGDATADIR=f"{pmix}/share/pmix", PMIX_SYSCONFDIR=f"{pmix}/etc",
                   OMPI_MCA_mca_base_component_show_load_errors="0", OMPI_MCA_plm="isolated",
                   OMPI_MCA_plm_rsh_agent="")
    # Containers may have the driver's libcuda.so.1 there. The toolkit's stub of the same name is for linking only.
    theirs = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    folders += [folder for folder in theirs if folder and pathlib.Path(folder).name != "stubs"]
    env["LD_LIBRARY_PATH"] = ":".join(dict.fromkeys(folders))
    return env


def cmake():
    """The machine's cmake if it is new enough, else the one that was brought; None: neither."""
    usr = brought()
    for path in (shutil.which("cmake"), usr and str(usr / "bin/cmake")):
        version = re.search(r"(\d+)\.(\d+)", said(path, "--version", env=build_environment()) if path else "")
        if version and (int(version[1]), int(version[2])) >= (3, 22):
            return path
    return None


def ctest():
    """The one that belongs to that cmake."""
    return str(pathlib.Path(cmake() or "cmake").with_name("ctest"))


def build_environment():
    """Compilers of the machine, cmake and ninja of whoever has them."""
    env, usr = dict(os.environ), brought()
    if usr:
        env.update(PATH=f"{env['PATH']}:{usr}/bin", LD_LIBRARY_PATH=str(usr / LIBRARIES))
    return env


PYTHONS = ["python3"]  # first_contact adds the one with PyTorch


def wheels():
    """Folders in which Pythons have packages."""
    ask = "import site, sysconfig; print(sysconfig.get_paths()['purelib'], *site.getsitepackages(), site.getusersitepackages())"
    return dict.fromkeys(folder for python in PYTHONS for folder in said(python, "-c", ask).split())


@functools.lru_cache
def nvidia_places():
    """Folders with NVIDIA's include and lib: the toolkit's, the system's, those of Python's wheels."""
    nvcc = tool("nvcc")
    places = [pathlib.Path(os.path.realpath(nvcc)).parents[1]] if nvcc else []
    places += [p / "targets/x86_64-linux" for p in places] + [pathlib.Path("/usr")]
    for site in wheels():
        places += [pathlib.Path(p) for p in sorted(glob.glob(f"{site}/nvidia/*"))]
    return places


@functools.lru_cache
def nvidia(name):
    """Where a library of NVIDIA's is: its folder of headers and its file; (None, None): not found."""
    header, library, _, _ = NVIDIA[name]
    include = next((p / "include" for p in nvidia_places() if (p / "include" / header).exists()), None)
    for place in nvidia_places():
        for folder in ("lib64", "lib", LIBRARIES):
            found = sorted((place / folder).glob(library + "*"))
            if found:
                return include, found[0]
    return include, None


def cmake_options(arch):
    """What configuring needs to hear on this machine."""
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DFLAMBEAU_CUDA=ON", f"-DFLAMBEAU_CUDA_ARCHITECTURES={arch}",
               "-DFLAMBEAU_ONEDNN=OFF"]
    if tool("nvcc"):
        options.append(f"-DFLAMBEAU_NVCC={tool('nvcc')}")
    for name, (_, _, include_name, library_name) in NVIDIA.items():
        include, library = nvidia(name)
        options += [f"-D{include_name}={include}"] if include else []
        options += [f"-D{library_name}={library}"] if library and library_name else []
    usr = brought()
    if usr:
        lib = usr / LIBRARIES
        options += [f"-DCMAKE_PREFIX_PATH={usr}", "-DMPI_C_LIB_NAMES=mpi", f"-DMPI_mpi_LIBRARY={lib}/libmpi.so",
                    f"-DMPI_C_HEADER_DIR={usr}/include", f"-DMPIEXEC_EXECUTABLE={usr}/bin/mpirun",
                    f"-DMPI_C_COMPILER_INCLUDE_DIRS={usr}/include", f"-DHDF5_ROOT={usr}",
                    f"-DHDF5_hdf5_LIBRARY_RELEASE={lib}/libhdf5.so", "-DHDF5_NO_FIND_PACKAGE_CONFIG_FILE=ON",
                    f"-DCMAKE_LIBRARY_PATH={lib}"]
    return options

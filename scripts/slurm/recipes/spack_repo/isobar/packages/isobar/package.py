# SPDX-License-Identifier: Apache-2.0
# For Spack 1.0 and later. From the repository's root, which is what is built:
#   spack repo add scripts/slurm/recipes/spack_repo/isobar
#   spack dev-build --source-path . isobar@0.1.0 +mpi
import os

from spack_repo.builtin.build_systems.cmake import CMakePackage
from spack_repo.builtin.build_systems.cuda import CudaPackage
from spack_repo.builtin.build_systems.rocm import ROCmPackage

from spack.package import *


class Isobar(CMakePackage, CudaPackage, ROCmPackage):
    """Data-parallel training of weather models, and of any LibTorch module."""

    manual_download = True

    license("Apache-2.0")

    version("0.1.0")

    variant("mpi", default=True, description="Carry gradients over MPI")
    variant("gloo", default=False, description="Carry gradients over the Gloo inside LibTorch")
    variant("atlas", default=False, description="Name reduced Gaussian grids, by ECMWF Atlas")
    variant("tests", default=False, description="Build the tests")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.23:", type="build")
    depends_on("ninja", type="build")

    depends_on("py-torch@2.11:")
    depends_on("py-torch ~cuda ~rocm", when="~cuda ~rocm")
    depends_on("py-torch +cuda +nccl", when="+cuda")
    depends_on("py-torch +rocm +nccl", when="+rocm")
    depends_on("nccl", when="+cuda")
    depends_on("rccl", when="+rocm")
    depends_on("hip", when="+rocm")
    depends_on("mpi", when="+mpi")
    depends_on("gloo", when="+gloo")
    depends_on("ecmwf-atlas", when="+atlas")
    depends_on("hdf5")
    depends_on("fmt")
    depends_on("spdlog")
    depends_on("yaml-cpp")
    depends_on("xxhash")
    depends_on("openssl")
    depends_on("nlohmann-json", type="build")
    depends_on("cli11", type="build")
    depends_on("nanoflann", type="build")
    depends_on("eigen@3.4:", type="build")
    depends_on("googletest", type="build", when="+tests")
    depends_on("benchmark", type="build", when="+tests")
    depends_on("python@3.9:", type=("build", "test"), when="+tests")

    conflicts("+cuda +rocm", msg="LibTorch is built for one kind of GPU")

    generator("ninja")

    def cmake_args(self):
        gpu = "cuda" if self.spec.satisfies("+cuda") else "rocm" if self.spec.satisfies("+rocm") else "none"
        # Its CMake package lies in torch/share/cmake.
        torch = os.path.dirname(os.path.dirname(self.spec["py-torch"].package.cmake_prefix_paths[0]))
        args = [
            self.define("ISOBAR_TORCH_DIR", torch),
            self.define("ISOBAR_GPU", gpu),
            self.define_from_variant("ISOBAR_MPI", "mpi"),
            self.define_from_variant("ISOBAR_GLOO", "gloo"),
            self.define_from_variant("ISOBAR_ATLAS", "atlas"),
            self.define_from_variant("ISOBAR_TESTS", "tests"),
            self.define("ISOBAR_EXAMPLES", False),
            self.define("ISOBAR_BENCH", False),
        ]
        if gpu != "none":
            args.append(self.define("NCCL_ROOT", self.spec["nccl" if gpu == "cuda" else "rccl"].prefix))
        return args

# SPDX-License-Identifier: Apache-2.0
# isobar_find_torch([DEFAULT <folder>] [GPU none|cuda|rocm])
#   defines isobar::torch, the one target by which isobar and its users link LibTorch. Sets, for the caller,
#   ISOBAR_TORCH_ROOT (the folder found) and ISOBAR_TORCH_ERROR (why none was; empty if all is well).
#
# isobar_find_nccl(<torch root> cuda|rocm)
#   defines isobar::nccl: NCCL and the headers of CUDA that its own need, or RCCL and HIP's. Sets ISOBAR_NCCL_ERROR for
#   the caller. Looked for in NCCL_ROOT (variable or environment), where the wheels put them (NVIDIA's beside LibTorch,
#   RCCL among its libraries), in ROCM_PATH, and in the system's folders.
#
# LibTorch is looked for in this order: Torch_DIR (a LibTorch with its own CMake package), ISOBAR_TORCH_DIR (a folder that holds
# include/ and lib/, such as the `torch` folder of a wheel; the environment variable of that name is its initial value),
# and DEFAULT. The CMake package of a CUDA wheel wants a CUDA toolkit even for a program that uses the CPU alone, so for
# a plain folder the target is defined here.
#
# This file is also installed: a user's find_package(isobar) defines isobar::torch by it. So it is an imported target,
# which no export set has to hold.

include_guard(GLOBAL)

set(ISOBAR_TORCH_MINIMUM 2.11)

# Sets <error> in the caller's scope unless `root` holds a LibTorch that isobar can use.
function(_isobar_check_torch root error)
  set(${error} "" PARENT_SCOPE)
  foreach(needed include/ATen/core/Tensor.h lib/libtorch_cpu.so lib/libc10.so)
    if(NOT EXISTS ${root}/${needed})
      set(${error} "${root} is no LibTorch: it has no ${needed}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  # The numbers moved to headeronly/ in LibTorch 2.9.
  set(header ${root}/include/torch/headeronly/version.h)
  if(NOT EXISTS ${header})
    set(header ${root}/include/torch/csrc/api/include/torch/version.h)
  endif()
  file(STRINGS ${header} numbers REGEX "#define TORCH_VERSION_(MAJOR|MINOR) ")
  string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*" "\\1.\\2" version "${numbers}")
  if(version VERSION_LESS ISOBAR_TORCH_MINIMUM)
    set(${error} "LibTorch in ${root} is ${version}; isobar wants ${ISOBAR_TORCH_MINIMUM} or later" PARENT_SCOPE)
  endif()
endfunction()

# What LibTorch's libraries for GPUs are called by; empty for none.
function(_isobar_gpu_suffix gpu suffix)
  string(REPLACE "rocm" "hip" name "${gpu}")
  string(REGEX REPLACE "^none$" "" name "${name}")
  set(${suffix} "${name}" PARENT_SCOPE)
endfunction()

# isobar::torch from a folder with include/ and lib/. Libraries are imported by their full path, so that CMake keeps
# the run path of everything that links them right, in the build tree and after installation.
function(_isobar_define_torch root gpu)
  foreach(library c10 torch_cpu)
    add_library(isobar::${library} SHARED IMPORTED GLOBAL)
    set_target_properties(isobar::${library} PROPERTIES IMPORTED_LOCATION ${root}/lib/lib${library}.so)
  endforeach()
  add_library(isobar::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(isobar::torch INTERFACE ${root}/include ${root}/include/torch/csrc/api/include)
  _isobar_gpu_suffix(${gpu} suffix)
  if(suffix)
    # Nothing refers to libtorch_cuda by symbol: without --no-as-needed it is dropped and no operation on GPUs registers.
    target_link_libraries(isobar::torch INTERFACE
      "-Wl,--no-as-needed,${root}/lib/libtorch_${suffix}.so,${root}/lib/libc10_${suffix}.so,--as-needed")
  endif()
  target_link_libraries(isobar::torch INTERFACE isobar::torch_cpu isobar::c10)
endfunction()

function(isobar_find_torch)
  cmake_parse_arguments(arg "" "DEFAULT;GPU" "" ${ARGN})
  if(NOT arg_GPU)
    set(arg_GPU none)
  endif()
  set(ISOBAR_TORCH_ERROR "" PARENT_SCOPE)
  if(TARGET isobar::torch)
    return()
  endif()
  if(Torch_DIR)
    find_package(Torch REQUIRED)
    add_library(isobar::torch INTERFACE IMPORTED GLOBAL)
    target_link_libraries(isobar::torch INTERFACE ${TORCH_LIBRARIES})
    target_include_directories(isobar::torch INTERFACE ${TORCH_INCLUDE_DIRS})
    set(ISOBAR_TORCH_ROOT ${TORCH_INSTALL_PREFIX} PARENT_SCOPE)
    return()
  endif()

  set(ISOBAR_TORCH_DIR "$ENV{ISOBAR_TORCH_DIR}" CACHE PATH
      "LibTorch: a folder with its include/ and lib/; empty for isobar's own")
  set(root "${ISOBAR_TORCH_DIR}")
  if(NOT root)
    set(root "${arg_DEFAULT}")
  endif()
  get_filename_component(root "${root}" REALPATH)
  _isobar_check_torch("${root}" error)
  _isobar_gpu_suffix(${arg_GPU} suffix)
  if(NOT error AND suffix AND NOT EXISTS ${root}/lib/libtorch_${suffix}.so)
    set(error "LibTorch in ${root} is not for ISOBAR_GPU=${arg_GPU}: it has no lib/libtorch_${suffix}.so")
  endif()
  if(error)
    set(ISOBAR_TORCH_ERROR "${error}; set ISOBAR_TORCH_DIR to a folder with LibTorch's include/ and lib/" PARENT_SCOPE)
    return()
  endif()
  _isobar_define_torch(${root} ${arg_GPU})
  set(ISOBAR_TORCH_ROOT ${root} PARENT_SCOPE)
endfunction()

function(isobar_find_nccl root gpu)
  set(ISOBAR_NCCL_ERROR "" PARENT_SCOPE)
  if(TARGET isobar::nccl)
    return()
  endif()
  set(NCCL_ROOT "$ENV{NCCL_ROOT}" CACHE PATH "NCCL or RCCL: a folder with its include/ and lib/; empty for LibTorch's")
  if(gpu STREQUAL "rocm")
    set(runtime "$ENV{ROCM_PATH}" /opt/rocm)
    # The copy that LibTorch itself loads comes first: a process should hold one.
    set(beside ${root} ${runtime})
    set(library rccl)
    set(header rccl/rccl.h)
    set(runtime_header hip/hip_runtime_api.h)
  else()
    file(GLOB beside LIST_DIRECTORIES true ${root}/../nvidia/nccl)
    file(GLOB runtime LIST_DIRECTORIES true ${root}/../nvidia/cu[0-9]* ${root}/../nvidia/cuda_runtime)
    list(APPEND runtime "$ENV{CUDA_HOME}" /usr/local/cuda)
    # The wheel's library has its version in its name.
    set(library nccl libnccl.so.2)
    set(header nccl.h)
    set(runtime_header cuda_runtime_api.h)
  endif()
  find_path(ISOBAR_NCCL_INCLUDE_DIR NAMES ${header} HINTS ${NCCL_ROOT} ${beside} PATH_SUFFIXES include)
  # Folder by folder: the system's libnccl.so would go before the wheel's libnccl.so.2, whose headers are taken.
  find_library(ISOBAR_NCCL_LIBRARY NAMES ${library} NAMES_PER_DIR HINTS ${NCCL_ROOT} ${beside} PATH_SUFFIXES lib lib64)
  find_path(ISOBAR_CUDA_INCLUDE_DIR NAMES ${runtime_header} HINTS ${runtime} PATH_SUFFIXES include)
  foreach(needed ISOBAR_NCCL_INCLUDE_DIR ISOBAR_NCCL_LIBRARY ISOBAR_CUDA_INCLUDE_DIR)
    if(NOT ${needed})
      set(ISOBAR_NCCL_ERROR "NCCL is incomplete (${needed}); set NCCL_ROOT to its folder, or -DISOBAR_NCCL=OFF"
          PARENT_SCOPE)
      return()
    endif()
  endforeach()
  add_library(isobar::nccl SHARED IMPORTED GLOBAL)
  set_target_properties(isobar::nccl PROPERTIES IMPORTED_LOCATION ${ISOBAR_NCCL_LIBRARY})
  target_include_directories(isobar::nccl INTERFACE ${ISOBAR_NCCL_INCLUDE_DIR} ${ISOBAR_CUDA_INCLUDE_DIR})
  if(gpu STREQUAL "rocm")
    # HIP's headers ask whose processor they are for.
    target_compile_definitions(isobar::nccl INTERFACE __HIP_PLATFORM_AMD__=1)
  endif()
endfunction()

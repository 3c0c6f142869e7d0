# The CUDA backend is a plug-in, lib/libflambeau_cuda.so, opened when a context asks for a card; with
# the tests comes lib/libflambeau_cudasim.so, the same sources on a simulated runtime (tests/cudasim).
# AUTO builds both where the toolkit and a C++ compiler are; ON insists.
# Sets flambeau_cuda (ON or OFF), flambeau_cuda_text (for people).
set(FLAMBEAU_CUDA_ARCHITECTURES 80 CACHE STRING
    "Compute capabilities to compile for: 80, 90a, 100 ...; the last one also as PTX, which newer cards translate")
set(flambeau_cuda OFF)
set(flambeau_cuda_text off)
set(cuda_missing "")

if(NOT FLAMBEAU_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "flambeau: FLAMBEAU_CUDA=${FLAMBEAU_CUDA}: use AUTO, ON or OFF")
endif()
if(NOT FLAMBEAU_CUDA STREQUAL "OFF")
  find_program(FLAMBEAU_NVCC nvcc HINTS ENV CUDA_HOME PATH_SUFFIXES bin PATHS /usr/local/cuda/bin)
  find_program(FLAMBEAU_CXX NAMES c++ g++ clang++)
  mark_as_advanced(FLAMBEAU_NVCC FLAMBEAU_CXX)
  if(FLAMBEAU_NVCC)
    get_filename_component(cuda_root ${FLAMBEAU_NVCC} REALPATH)
    get_filename_component(cuda_root ${cuda_root} DIRECTORY)
    get_filename_component(cuda_root ${cuda_root} DIRECTORY)
    set(cuda_places PATHS ${cuda_root} ${cuda_root}/targets/x86_64-linux /usr
                    PATH_SUFFIXES include lib64 lib NO_DEFAULT_PATH)
    find_path(FLAMBEAU_cuda_INCLUDE cuda_runtime.h ${cuda_places})
    find_path(FLAMBEAU_cublas_INCLUDE cublasLt.h ${cuda_places})
    find_path(FLAMBEAU_nvtx_INCLUDE nvtx3/nvToolsExt.h ${cuda_places})
    find_library(FLAMBEAU_cudart_LIBRARY cudart_static ${cuda_places})
    find_library(FLAMBEAU_cublasLt_LIBRARY cublasLt ${cuda_places})
    # Only its header: the library is opened at run time, if it is there.
    find_path(FLAMBEAU_nccl_INCLUDE nccl.h ${cuda_places})
    mark_as_advanced(FLAMBEAU_cuda_INCLUDE FLAMBEAU_cublas_INCLUDE FLAMBEAU_cudart_LIBRARY
                     FLAMBEAU_cublasLt_LIBRARY FLAMBEAU_nccl_INCLUDE FLAMBEAU_nvtx_INCLUDE)
  endif()
  if(NOT FLAMBEAU_NVCC)
    set(cuda_missing "no toolkit found")
  elseif(NOT FLAMBEAU_cuda_INCLUDE OR NOT FLAMBEAU_cublas_INCLUDE OR NOT FLAMBEAU_cudart_LIBRARY OR
         NOT FLAMBEAU_cublasLt_LIBRARY)
    set(cuda_missing "the toolkit of ${FLAMBEAU_NVCC} has no cuda_runtime.h, cublasLt.h, libcudart_static or libcublasLt")
  elseif(NOT FLAMBEAU_CXX)
    set(cuda_missing "toolkit found, but no C++ compiler (Debian: g++)")
  elseif(FLAMBEAU_SANITIZE)
    set(cuda_missing "not built under sanitizers")
  endif()
  if(NOT cuda_missing)
    set(flambeau_cuda ON)
    execute_process(COMMAND ${FLAMBEAU_NVCC} --version OUTPUT_VARIABLE cuda_version)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" cuda_version "${cuda_version}")
    string(REPLACE ";" " " cuda_architectures_text "${FLAMBEAU_CUDA_ARCHITECTURES}")
    set(flambeau_cuda_text "${CMAKE_MATCH_1} for ${cuda_architectures_text}")
  elseif(FLAMBEAU_CUDA STREQUAL "ON")
    message(FATAL_ERROR "flambeau: FLAMBEAU_CUDA=ON: ${cuda_missing}; configure with "
                        "-DFLAMBEAU_CUDA=AUTO or OFF to build for the CPU")
  else()
    set(flambeau_cuda_text ${cuda_missing})
  endif()
endif()
if(flambeau_cuda)
  set(CMAKE_CXX_COMPILER ${FLAMBEAU_CXX} CACHE FILEPATH "C++ compiler, for the CUDA plug-ins")
  enable_language(CXX)
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_CXX_FLAGS_RELEASE "-O2")
  set(flambeau_cuda_includes ${FLAMBEAU_cuda_INCLUDE} ${FLAMBEAU_cublas_INCLUDE})
  # NCCL must not be older than its header, nor than ncclCommSplit.
  set(flambeau_nccl OFF)
  set(flambeau_nccl_oldest 21800)
  if(FLAMBEAU_nccl_INCLUDE)
    file(STRINGS ${FLAMBEAU_nccl_INCLUDE}/nccl.h line REGEX "^#define NCCL_VERSION_CODE [0-9]+")
    string(REGEX MATCH "[0-9]+$" line "${line}")
    if(line GREATER_EQUAL flambeau_nccl_oldest)
      set(flambeau_nccl ON)
      set(flambeau_nccl_oldest ${line})
      list(APPEND flambeau_cuda_includes ${FLAMBEAU_nccl_INCLUDE})
    endif()
  endif()
endif()

# C sources of both plug-ins: x.c or x_none.c.
function(flambeau_cuda_sources list)
  file(GLOB plain CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/core/cuda/*.c)
  if(FLAMBEAU_nvtx_INCLUDE)
    list(FILTER plain EXCLUDE REGEX "/nvtx_none\\.c$")
  else()
    list(FILTER plain EXCLUDE REGEX "/nvtx\\.c$")
  endif()
  if(flambeau_nccl)
    list(FILTER plain EXCLUDE REGEX "/nccl_none\\.c$")
  else()
    list(FILTER plain EXCLUDE REGEX "/nccl(_load)?\\.c$")
  endif()
  set(${list} ${plain} PARENT_SCOPE)
endfunction()

# What both plug-ins have in common.
function(flambeau_cuda_module target name exact architectures)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME flambeau_${name} LINKER_LANGUAGE CXX
                        INSTALL_RPATH_USE_LINK_PATH ON)
  target_include_directories(${target} PRIVATE ${flambeau_include} ${PROJECT_SOURCE_DIR})
  target_include_directories(${target} SYSTEM PRIVATE ${flambeau_cuda_includes})
  target_compile_definitions(${target} PRIVATE FB_BUILD "FBI_CUDA_NAME=\"${name}\""
    FBI_CUDA_EXACT_MEMORY=${exact} FBI_NCCL_OLDEST=${flambeau_nccl_oldest}
    "FBI_CUDA_ARCHITECTURES=\"${architectures}\"")
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:C>:${flambeau_warnings}> $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
endfunction()

# libflambeau_cuda.so: C sources, and kernels by nvcc, one command a file.
function(flambeau_cuda_plugin)
  set(flags -std=c++17 -O3 -Xcompiler=-fPIC,-fvisibility=hidden,-fno-exceptions
      -isystem ${FLAMBEAU_cublas_INCLUDE} -I${flambeau_include} -I${PROJECT_SOURCE_DIR}
      -ccbin ${FLAMBEAU_CXX} -DFB_BUILD)
  foreach(architecture ${FLAMBEAU_CUDA_ARCHITECTURES})
    list(APPEND flags -gencode arch=compute_${architecture},code=sm_${architecture})
    set(last ${architecture})
  endforeach()
  list(APPEND flags -gencode arch=compute_${last},code=compute_${last})
  if(FLAMBEAU_WERROR)
    list(APPEND flags -Werror all-warnings)
  endif()
  flambeau_cuda_sources(plain)
  file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/core/cuda/*.cu)
  set(objects "")
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/cuda)
  foreach(file ${kernels})
    get_filename_component(stem ${file} NAME_WE)
    set(object ${PROJECT_BINARY_DIR}/cuda/${stem}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${FLAMBEAU_NVCC} ${flags} -MD -MF ${object}.d -c ${file} -o ${object}
      DEPENDS ${file} DEPFILE ${object}.d COMMENT "nvcc ${stem}.cu" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  add_library(flambeau_cuda MODULE ${plain} ${objects})
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  flambeau_cuda_module(flambeau_cuda cuda 0 "${cuda_architectures_text}")
  target_link_libraries(flambeau_cuda PRIVATE ${FLAMBEAU_cudart_LIBRARY}
                        ${FLAMBEAU_cublasLt_LIBRARY} Threads::Threads ${CMAKE_DL_LIBS} rt)
  install(TARGETS flambeau_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# The simulated CUDA; without NCCL's header it lacks NCCL.
function(flambeau_simulator_sources variable)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/cudasim/*.cpp)
  if(NOT flambeau_nccl)
    list(FILTER files EXCLUDE REGEX "/nccl[^/]*$")
  endif()
  set(${variable} ${files} PARENT_SCOPE)
endfunction()

# libflambeau_cudasim.so: the same files by the host's compilers, and the simulator.
function(flambeau_cudasim_plugin)
  flambeau_cuda_sources(plain)
  if(flambeau_nccl) # linked instead of opened
    list(FILTER plain EXCLUDE REGEX "/nccl_load\\.c$")
    list(APPEND plain ${PROJECT_SOURCE_DIR}/tests/cudasim/nccl_linked.c)
  endif()
  file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/core/cuda/*.cu)
  flambeau_simulator_sources(simulator)
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS
    "-x;c++;-O1;-include;${PROJECT_SOURCE_DIR}/tests/cudasim/cuda_on_host.h")
  set_source_files_properties(${simulator} PROPERTIES COMPILE_OPTIONS -O3)
  add_library(flambeau_cudasim MODULE ${plain} ${kernels} ${simulator})
  flambeau_cuda_module(flambeau_cudasim cudasim 1 90)
  target_link_libraries(flambeau_cudasim PRIVATE Threads::Threads ${CMAKE_DL_LIBS} rt m)
endfunction()

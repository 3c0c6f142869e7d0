# Finds MPI, HDF5, OpenMP, jansson, xxHash, zlib, libyaml, oneDNN and LAPACK.
# Sets flambeau_libraries (for linking), flambeau_{mpi,hdf5,dnn}_includes, flambeau_openmp_flags,
# flambeau_dnn_major (v2, v3 or none: the adapter's file) and flambeau_dnn_text (for people),
# flambeau_lapack (ON or OFF).
# Every failure says what is missing and how to get it.

function(flambeau_need what found debian)
  if(NOT ${found})
    message(FATAL_ERROR "flambeau: ${what} not found: run launch/setup, or install ${debian} "
                        "(Debian's name) or its like")
  endif()
endfunction()

find_package(Threads REQUIRED)
set(MPI_C_SKIP_MPICXX ON)
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI QUIET COMPONENTS C)
flambeau_need("MPI for C" MPI_C_FOUND "libopenmpi-dev openmpi-bin")
find_package(HDF5 1.10.7 QUIET COMPONENTS C)
flambeau_need("HDF5 1.10.7 or newer" HDF5_FOUND libhdf5-dev)

foreach(library jansson xxhash z)
  find_library(FLAMBEAU_${library}_LIBRARY ${library})
  mark_as_advanced(FLAMBEAU_${library}_LIBRARY)
endforeach()
find_path(FLAMBEAU_jansson_INCLUDE jansson.h)
find_path(FLAMBEAU_xxhash_INCLUDE xxhash.h)
find_path(FLAMBEAU_z_INCLUDE zlib.h)
mark_as_advanced(FLAMBEAU_jansson_INCLUDE FLAMBEAU_xxhash_INCLUDE FLAMBEAU_z_INCLUDE)
flambeau_need("the JSON library jansson" FLAMBEAU_jansson_LIBRARY libjansson-dev)
flambeau_need("jansson.h" FLAMBEAU_jansson_INCLUDE libjansson-dev)
flambeau_need("xxHash" FLAMBEAU_xxhash_LIBRARY libxxhash-dev)
flambeau_need("xxhash.h" FLAMBEAU_xxhash_INCLUDE libxxhash-dev)
flambeau_need("zlib" FLAMBEAU_z_LIBRARY zlib1g-dev)
flambeau_need("zlib.h" FLAMBEAU_z_INCLUDE zlib1g-dev)
# libyaml: by pkg-config where it is, else by its usual names.
find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(flambeau_yaml QUIET yaml-0.1)
endif()
find_library(FLAMBEAU_yaml_LIBRARY yaml HINTS ${flambeau_yaml_LIBRARY_DIRS})
find_path(FLAMBEAU_yaml_INCLUDE yaml.h HINTS ${flambeau_yaml_INCLUDE_DIRS})
mark_as_advanced(FLAMBEAU_yaml_LIBRARY FLAMBEAU_yaml_INCLUDE)
flambeau_need("libyaml" FLAMBEAU_yaml_LIBRARY libyaml-dev)
flambeau_need("yaml.h" FLAMBEAU_yaml_INCLUDE libyaml-dev)

set(flambeau_mpi_includes ${MPI_C_INCLUDE_DIRS})
set(flambeau_hdf5_includes ${HDF5_C_INCLUDE_DIRS})
set(flambeau_other_includes ${FLAMBEAU_jansson_INCLUDE} ${FLAMBEAU_xxhash_INCLUDE}
    ${FLAMBEAU_z_INCLUDE} ${FLAMBEAU_yaml_INCLUDE})
# HDF5's own helpers (libcurl, libcrypto, libsz) are the shared library's business, not ours.
set(flambeau_hdf5_library ${HDF5_C_LIBRARIES})
list(FILTER flambeau_hdf5_library INCLUDE REGEX "hdf5")
set(flambeau_libraries ${MPI_C_LIBRARIES} ${flambeau_hdf5_library} ${FLAMBEAU_jansson_LIBRARY}
    ${FLAMBEAU_xxhash_LIBRARY} ${FLAMBEAU_z_LIBRARY} ${FLAMBEAU_yaml_LIBRARY})

set(flambeau_openmp_flags -Wno-unknown-pragmas)
set(flambeau_openmp_text OFF)
if(FLAMBEAU_OPENMP)
  find_package(OpenMP QUIET COMPONENTS C)
  if(OpenMP_C_FOUND)
    separate_arguments(flambeau_openmp_flags UNIX_COMMAND "${OpenMP_C_FLAGS}")
    list(APPEND flambeau_libraries ${OpenMP_C_LIBRARIES})
    list(FILTER flambeau_libraries EXCLUDE REGEX "libpthread\\.(a|so)$")
  else()
    message(FATAL_ERROR "flambeau: this compiler has no OpenMP: install libgomp, or configure with "
                        "-DFLAMBEAU_OPENMP=OFF (kernels on one thread)")
  endif()
endif()

# oneDNN brings an OpenMP of its own, whose threads only omp_set_num_threads holds to our count.
if(NOT FLAMBEAU_OPENMP)
  if(FLAMBEAU_ONEDNN STREQUAL "ON")
    message(FATAL_ERROR "flambeau: FLAMBEAU_ONEDNN=ON needs FLAMBEAU_OPENMP=ON")
  endif()
  set(flambeau_want_dnn OFF)
else()
  set(flambeau_want_dnn ${FLAMBEAU_ONEDNN})
endif()

# oneDNN by header and library: Debian's CMake configuration of it asks for OpenCL, and fails.
set(flambeau_dnn_major none)
set(flambeau_dnn_includes "")
set(flambeau_dnn_text "none")
if(NOT flambeau_want_dnn STREQUAL "OFF")
  if(NOT "${FLAMBEAU_ONEDNN_ROOT}" STREQUAL "${flambeau_onednn_root_used}")
    unset(FLAMBEAU_dnnl_INCLUDE CACHE)
    unset(FLAMBEAU_dnnl_LIBRARY CACHE)
  endif()
  set(flambeau_onednn_root_used "${FLAMBEAU_ONEDNN_ROOT}" CACHE INTERNAL "")
  if(FLAMBEAU_ONEDNN_ROOT)
    find_path(FLAMBEAU_dnnl_INCLUDE oneapi/dnnl/dnnl_version.h
              PATHS ${FLAMBEAU_ONEDNN_ROOT} PATH_SUFFIXES include NO_DEFAULT_PATH)
    find_library(FLAMBEAU_dnnl_LIBRARY dnnl
                 PATHS ${FLAMBEAU_ONEDNN_ROOT} PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH)
  else()
    find_path(FLAMBEAU_dnnl_INCLUDE oneapi/dnnl/dnnl_version.h)
    find_library(FLAMBEAU_dnnl_LIBRARY dnnl)
  endif()
  mark_as_advanced(FLAMBEAU_dnnl_INCLUDE FLAMBEAU_dnnl_LIBRARY)
  if(FLAMBEAU_dnnl_INCLUDE AND FLAMBEAU_dnnl_LIBRARY)
    foreach(part MAJOR MINOR PATCH)
      file(STRINGS ${FLAMBEAU_dnnl_INCLUDE}/oneapi/dnnl/dnnl_version.h line
           REGEX "#define DNNL_VERSION_${part} +[0-9]+")
      string(REGEX MATCH "[0-9]+$" dnn_${part} "${line}")
    endforeach()
    set(flambeau_dnn_text ${dnn_MAJOR}.${dnn_MINOR}.${dnn_PATCH})
    if(NOT dnn_MAJOR STREQUAL "2" AND NOT dnn_MAJOR STREQUAL "3")
      message(FATAL_ERROR "flambeau: oneDNN ${flambeau_dnn_text} in ${FLAMBEAU_dnnl_INCLUDE}: only "
                          "2.x and 3.x are known; configure with -DFLAMBEAU_ONEDNN=OFF")
    endif()
    set(flambeau_dnn_major v${dnn_MAJOR})
    set(flambeau_dnn_includes ${FLAMBEAU_dnnl_INCLUDE})
    list(APPEND flambeau_libraries ${FLAMBEAU_dnnl_LIBRARY})
  elseif(FLAMBEAU_ONEDNN STREQUAL "ON" OR FLAMBEAU_ONEDNN_ROOT)
    message(FATAL_ERROR "flambeau: oneDNN not found: install libdnnl-dev, or give its folder with "
                        "-DFLAMBEAU_ONEDNN_ROOT=DIR (DIR/include/oneapi/dnnl/dnnl.h, DIR/lib)")
  else()
    message(STATUS "flambeau: oneDNN not found: our own convolutions are slower")
  endif()
endif()

# LAPACK's Fortran interface: no header. The libraries of Debian's liblapack3 and libblas3, or any that
# stand for them.
set(flambeau_lapack OFF)
if(NOT FLAMBEAU_LAPACK STREQUAL "OFF")
  find_library(FLAMBEAU_lapack_LIBRARY lapack)
  find_library(FLAMBEAU_blas_LIBRARY blas)
  mark_as_advanced(FLAMBEAU_lapack_LIBRARY FLAMBEAU_blas_LIBRARY)
  if(FLAMBEAU_lapack_LIBRARY AND FLAMBEAU_blas_LIBRARY)
    set(flambeau_lapack ON)
    list(APPEND flambeau_libraries ${FLAMBEAU_lapack_LIBRARY} ${FLAMBEAU_blas_LIBRARY})
  elseif(FLAMBEAU_LAPACK STREQUAL "ON")
    message(FATAL_ERROR "flambeau: LAPACK not found: install liblapack-dev")
  else()
    message(STATUS "flambeau: LAPACK not found: no decompositions of matrices; install liblapack-dev")
  endif()
endif()
list(APPEND flambeau_libraries ${CMAKE_DL_LIBS} pthread m)
list(REMOVE_DUPLICATES flambeau_libraries)

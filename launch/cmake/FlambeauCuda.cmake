# The CUDA backend is a plug-in (libflambeau_cuda.so) that this version does not have yet.
# AUTO says what it found and builds for the CPU; ON is refused rather than ignored.
set(flambeau_cuda_text off)
if(FLAMBEAU_CUDA STREQUAL "ON")
  message(FATAL_ERROR "flambeau: FLAMBEAU_CUDA=ON: the CUDA plug-in is not in this version "
                      "(${PROJECT_VERSION}); configure with -DFLAMBEAU_CUDA=AUTO or OFF to build "
                      "for the CPU")
elseif(FLAMBEAU_CUDA STREQUAL "AUTO")
  find_program(FLAMBEAU_NVCC nvcc HINTS ENV CUDA_HOME PATH_SUFFIXES bin
               PATHS /usr/local/cuda/bin)
  mark_as_advanced(FLAMBEAU_NVCC)
  if(FLAMBEAU_NVCC)
    set(flambeau_cuda_text "toolkit found (${FLAMBEAU_NVCC}), but this version has no CUDA plug-in")
  else()
    set(flambeau_cuda_text "no toolkit found")
  endif()
elseif(NOT FLAMBEAU_CUDA STREQUAL "OFF")
  message(FATAL_ERROR "flambeau: FLAMBEAU_CUDA=${FLAMBEAU_CUDA}: use AUTO, ON or OFF")
endif()

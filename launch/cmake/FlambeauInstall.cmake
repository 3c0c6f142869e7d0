# cmake --install: public headers, both libraries, the command, and what find_package(flambeau) and
# pkg-config read. Users of the shared library need nothing else; users of the static one get the
# plain list of libraries that this build was made with.
include(CMakePackageConfigHelpers)
foreach(room core comm parallel io launch)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${room}
          DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flambeau
          FILES_MATCHING PATTERN "*.h"
          PATTERN "*_priv.h" EXCLUDE
          PATTERN "*_t.h" EXCLUDE
          PATTERN "core/cpu" EXCLUDE
          PATTERN "core/cuda" EXCLUDE
          PATTERN "launch/cmake" EXCLUDE
          PATTERN "launch/flambeau.h" EXCLUDE
          PATTERN "core/ops/backend.h" EXCLUDE
          PATTERN "core/ops/ops_*.h" EXCLUDE
          PATTERN "core/base/vmath.h" EXCLUDE
          PATTERN "core/base/half.h" EXCLUDE)
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/launch/flambeau.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flambeau)
if(flambeau_targets)
  install(TARGETS flambeau flambeau_static
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

set(flambeau_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/flambeau)
configure_package_config_file(${PROJECT_SOURCE_DIR}/launch/cmake/flambeau-config.cmake.in
  ${PROJECT_BINARY_DIR}/flambeau-config.cmake INSTALL_DESTINATION ${flambeau_config_dir}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/flambeau-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/flambeau-config.cmake
        ${PROJECT_BINARY_DIR}/flambeau-config-version.cmake DESTINATION ${flambeau_config_dir})

set(flambeau_pc_libraries "")
foreach(library ${flambeau_libraries})
  if(library MATCHES "^(/|-)")
    string(APPEND flambeau_pc_libraries " ${library}")
  else()
    string(APPEND flambeau_pc_libraries " -l${library}")
  endif()
endforeach()
# A .pc file is found by its own folder, so that an installation may be moved.
file(RELATIVE_PATH flambeau_pc_prefix /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
configure_file(${PROJECT_SOURCE_DIR}/launch/cmake/flambeau.pc.in
               ${PROJECT_BINARY_DIR}/flambeau.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/flambeau.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# cmake --install: headers, libraries, find_package(flambeau), pkg-config.
include(CMakePackageConfigHelpers)
foreach(room ${rooms})
    install(DIRECTORY ${CMAKE_SOURCE_DIR}/${room}/
            DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flambeau/${room}
            FILES_MATCHING PATTERN "*.h"
            PATTERN "*_priv.h" EXCLUDE
            PATTERN "cpu" EXCLUDE
            PATTERN "cmake" EXCLUDE
            PATTERN "backend.h" EXCLUDE
            PATTERN "ops_begin.h" EXCLUDE
            PATTERN "ops_end.h" EXCLUDE
            PATTERN "vmath.h" EXCLUDE
            PATTERN "half.h" EXCLUDE
            PATTERN "flambeau.h" EXCLUDE)
endforeach()
install(FILES ${CMAKE_SOURCE_DIR}/launch/flambeau.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flambeau)
install(TARGETS flambeau_shared flambeau_static EXPORT flambeau-targets)
install(EXPORT flambeau-targets NAMESPACE flambeau::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flambeau)
configure_package_config_file(launch/cmake/flambeau-config.cmake.in
    ${CMAKE_BINARY_DIR}/flambeau-config.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flambeau)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/flambeau-config-version.cmake
    COMPATIBILITY SameMinorVersion)
configure_file(launch/cmake/flambeau.pc.in ${CMAKE_BINARY_DIR}/flambeau.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/flambeau-config.cmake
        ${CMAKE_BINARY_DIR}/flambeau-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flambeau)
install(FILES ${CMAKE_BINARY_DIR}/flambeau.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

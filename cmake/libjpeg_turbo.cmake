# Defines the target `libjpeg_turbo`: the system's when it has region decoding, else a pinned release built here.
include(CheckCXXSourceCompiles)
include("${CMAKE_CURRENT_LIST_DIR}/libjpeg_turbo_release.cmake")
option(FFCV_FETCH_LIBJPEG "Build the pinned libjpeg-turbo even when the system has one" OFF)
set(FFCV_LIBJPEG_ARGS "" CACHE STRING "More CMake arguments for building it, such as sanitizers' flags")
add_library(libjpeg_turbo INTERFACE)
if(NOT FFCV_FETCH_LIBJPEG)
  find_package(JPEG QUIET)
  if(JPEG_FOUND)
    set(CMAKE_REQUIRED_LIBRARIES JPEG::JPEG)
    check_cxx_source_compiles("
      #include <cstddef>
      #include <cstdio>
      #include <jpeglib.h>
      int main() { jpeg_decompress_struct c; JDIMENSION x = 0, w = 8; jpeg_crop_scanline(&c, &x, &w);
                   return jpeg_skip_scanlines(&c, 1) + LIBJPEG_TURBO_VERSION_NUMBER; }" FFCV_SYSTEM_LIBJPEG_TURBO)
    unset(CMAKE_REQUIRED_LIBRARIES)
  endif()
endif()

if(FFCV_SYSTEM_LIBJPEG_TURBO AND NOT FFCV_FETCH_LIBJPEG)
  message(STATUS "libjpeg-turbo: the system's (${JPEG_LIBRARIES})")
  target_link_libraries(libjpeg_turbo INTERFACE JPEG::JPEG)
else()
  message(STATUS "libjpeg-turbo: building ${FFCV_LIBJPEG_URL} ('nasm' makes it several times faster)")
  if(NOT FFCV_FETCH_LIBJPEG)
    message(STATUS "The system has none with region decoding; 'apt-get install libjpeg-dev' saves this step")
  endif()
  include(ExternalProject)
  set(prefix "${CMAKE_BINARY_DIR}/libjpeg-turbo")
  set(hash "")
  if(FFCV_LIBJPEG_SHA256)
    set(hash URL_HASH "SHA256=${FFCV_LIBJPEG_SHA256}")
  endif()
  ExternalProject_Add(libjpeg_turbo_build
    URL "${FFCV_LIBJPEG_URL}" ${hash} DOWNLOAD_EXTRACT_TIMESTAMP ON
    CMAKE_ARGS -DCMAKE_INSTALL_PREFIX=${prefix} -DCMAKE_INSTALL_LIBDIR=${prefix}/lib -DCMAKE_BUILD_TYPE=Release
               -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DENABLE_SHARED=OFF -DWITH_TURBOJPEG=OFF
               ${FFCV_LIBJPEG_ARGS}
    BUILD_BYPRODUCTS "${prefix}/lib/libjpeg.a")
  file(MAKE_DIRECTORY "${prefix}/include")
  add_dependencies(libjpeg_turbo libjpeg_turbo_build)
  target_include_directories(libjpeg_turbo INTERFACE "${prefix}/include")
  target_link_libraries(libjpeg_turbo INTERFACE "${prefix}/lib/libjpeg.a")
endif()

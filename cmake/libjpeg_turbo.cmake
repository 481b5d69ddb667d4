# Defines the target `libjpeg_turbo`: the system's when it has region decoding, else a pinned release built here.
include(CheckCXXSourceCompiles)
option(FFCV_FETCH_LIBJPEG "Build the pinned libjpeg-turbo even when the system has one" OFF)
set(FFCV_LIBJPEG_URL
    "https://github.com/libjpeg-turbo/libjpeg-turbo/releases/download/3.1.0/libjpeg-turbo-3.1.0.tar.gz"
    CACHE STRING "Where the pinned libjpeg-turbo comes from (a URL or a local path)")
set(FFCV_LIBJPEG_SHA256 "9564c72b1dfd1d6fe6274c5f95a8d989b59854575d4bbee44ade7bc17aa9bc93"
    CACHE STRING "SHA-256 of that archive")

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
  message(STATUS "libjpeg-turbo: building ${FFCV_LIBJPEG_URL} (the system has none with region decoding; "
                 "'apt-get install libjpeg-dev' saves this step, 'nasm' makes the result several times faster)")
  include(ExternalProject)
  set(prefix "${CMAKE_BINARY_DIR}/libjpeg-turbo")
  ExternalProject_Add(libjpeg_turbo_build
    URL "${FFCV_LIBJPEG_URL}" URL_HASH "SHA256=${FFCV_LIBJPEG_SHA256}" DOWNLOAD_EXTRACT_TIMESTAMP ON
    CMAKE_ARGS -DCMAKE_INSTALL_PREFIX=${prefix} -DCMAKE_INSTALL_LIBDIR=${prefix}/lib -DCMAKE_BUILD_TYPE=Release
               -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DENABLE_SHARED=OFF -DWITH_TURBOJPEG=OFF
    BUILD_BYPRODUCTS "${prefix}/lib/libjpeg.a")
  file(MAKE_DIRECTORY "${prefix}/include")
  add_dependencies(libjpeg_turbo libjpeg_turbo_build)
  target_include_directories(libjpeg_turbo INTERFACE "${prefix}/include")
  target_link_libraries(libjpeg_turbo INTERFACE "${prefix}/lib/libjpeg.a")
endif()

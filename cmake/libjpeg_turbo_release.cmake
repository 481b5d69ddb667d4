# The pinned libjpeg-turbo. As a script (cmake -DTO=FILE -P cmake/libjpeg_turbo_release.cmake) it fetches the archive.
set(FFCV_LIBJPEG_URL
    "https://github.com/libjpeg-turbo/libjpeg-turbo/releases/download/3.1.0/libjpeg-turbo-3.1.0.tar.gz"
    CACHE STRING "Where the pinned libjpeg-turbo comes from (a URL, or a local archive or folder)")
set(FFCV_LIBJPEG_SHA256 "9564c72b1dfd1d6fe6274c5f95a8d989b59854575d4bbee44ade7bc17aa9bc93"
    CACHE STRING "SHA-256 of that archive; empty where it is not to be compared")

if(CMAKE_SCRIPT_MODE_FILE)
  file(DOWNLOAD "${FFCV_LIBJPEG_URL}" "${TO}" EXPECTED_HASH "SHA256=${FFCV_LIBJPEG_SHA256}" INACTIVITY_TIMEOUT 20)
endif()

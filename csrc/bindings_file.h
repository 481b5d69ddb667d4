#pragma once
#include <nanobind/nanobind.h>

namespace ffcv {

void bind_file(nanobind::module_& m);

}  // namespace ffcv

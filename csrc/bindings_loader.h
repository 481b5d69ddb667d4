#pragma once
#include <nanobind/nanobind.h>

namespace ffcv {

void bind_loader(nanobind::module_& m);

}  // namespace ffcv

// Renders batches: every image decoded once, every view of it straight into the batch.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pool.h"
#include "program.h"

namespace ffcv {

struct SampleError {
    size_t position;  // in the batch
    std::string message;
};

class Renderer {
public:
    explicit Renderer(size_t num_threads);
    ~Renderer();

    size_t num_threads() const { return pool_.size(); }

    // Fills the views' outputs. Samples that could not be rendered are returned, in order; their outputs are zeros.
    std::vector<SampleError> render(const ImageBatch& images, std::span<const ViewProgram> views);

private:
    struct Worker;

    ThreadPool pool_;
    std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace ffcv

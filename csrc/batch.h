// Renders batches: every image decoded once, every view of it straight into the batch.
#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
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

    // Another one on the same threads, which can be cancelled by itself.
    std::unique_ptr<Renderer> another() const;

    size_t num_threads() const;

    // Fills the views' outputs, and calls `meanwhile`, which must not throw, in the caller's thread. Samples that could
    // not be rendered are returned, in order; their outputs are zeros. Throws std::runtime_error once it is cancelled,
    // and std::bad_alloc where memory is lacking.
    std::vector<SampleError> render(
        const ImageBatch& images, std::span<const ViewProgram> views, const std::function<void()>& meanwhile = [] {});

    // From any thread: `render` begins no further view, now and from now on, and throws.
    void cancel() { cancelled_ = true; }

private:
    struct Worker;
    struct Threads;
    explicit Renderer(std::shared_ptr<Threads> threads);

    std::shared_ptr<Threads> threads_;
    std::atomic<bool> cancelled_{false};
};

}  // namespace ffcv

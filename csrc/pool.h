// A fixed set of threads that work off indices 0..n-1.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>

namespace ffcv {

class ThreadPool {
public:
    explicit ThreadPool(size_t num_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    size_t size() const;

    // Calls task(worker, index) for every index below `count`, and in the caller's thread `meanwhile`; returns when all
    // calls have returned. They must not throw. One call at a time: a second caller waits. Throws std::runtime_error in
    // a process that was forked after the pool was made, where its threads do not exist, and, with some indices left
    // out, after cancel_all().
    void run(
        size_t count, const std::function<void(size_t worker, size_t index)>& task,
        const std::function<void()>& meanwhile = [] {});

    // For a process that ends: all pools leave out the indices that they have not begun, now and from now on.
    static void cancel_all();
    static bool are_cancelled();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ffcv

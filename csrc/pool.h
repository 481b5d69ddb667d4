// A fixed set of threads that work off indices 0..n-1.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ffcv {

class ThreadPool {
public:
    explicit ThreadPool(size_t num_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    size_t size() const { return threads_.size(); }

    // Calls task(worker, index) for every index below `count`; returns when all calls have returned. `task` must not
    // throw. One call at a time: a second caller waits.
    void run(size_t count, const std::function<void(size_t worker, size_t index)>& task);

private:
    void work(size_t worker);

    std::mutex callers_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    const std::function<void(size_t, size_t)>* task_ = nullptr;
    size_t count_ = 0;
    size_t busy_ = 0;
    size_t round_ = 0;
    bool stopping_ = false;
    std::atomic<size_t> next_{0};
    std::vector<std::thread> threads_;
};

}  // namespace ffcv

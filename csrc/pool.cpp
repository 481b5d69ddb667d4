#include "pool.h"

#include <algorithm>

namespace ffcv {

ThreadPool::ThreadPool(size_t num_threads) {
    for (size_t worker = 0; worker < std::max<size_t>(1, num_threads); ++worker)
        threads_.emplace_back([this, worker] { work(worker); });
}

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(size_t count, const std::function<void(size_t, size_t)>& task) {
    const std::lock_guard one_caller(callers_);
    std::unique_lock lock(mutex_);
    task_ = &task;
    count_ = count;
    busy_ = threads_.size();
    next_ = 0;
    ++round_;
    wake_.notify_all();
    done_.wait(lock, [this] { return busy_ == 0; });
}

void ThreadPool::work(size_t worker) {
    size_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
        if (stopping_) return;
        seen = round_;
        const auto& task = *task_;
        const size_t count = count_;
        lock.unlock();
        for (size_t index = next_++; index < count; index = next_++) task(worker, index);
        lock.lock();
        if (--busy_ == 0) done_.notify_one();
    }
}

}  // namespace ffcv

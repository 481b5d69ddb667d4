#include "pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace ffcv {

namespace {
std::atomic<bool> cancelled{false};
}

struct ThreadPool::State {
    std::mutex callers, mutex;
    std::condition_variable wake, done;
    const std::function<void(size_t, size_t)>* task = nullptr;
    size_t count = 0, busy = 0, round = 0;
    bool stopping = false;
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    pid_t owner = ::getpid();

    void work(size_t worker) {
        size_t seen = 0;
        std::unique_lock lock(mutex);
        for (;;) {
            wake.wait(lock, [&] { return stopping || round != seen; });
            if (stopping) return;
            seen = round;
            const auto& current = *task;
            const size_t end = count;
            lock.unlock();
            for (size_t index = next++; index < end && !cancelled; index = next++) current(worker, index);
            lock.lock();
            if (--busy == 0) done.notify_one();
        }
    }

    void stop() {
        {
            const std::lock_guard lock(mutex);
            stopping = true;
        }
        wake.notify_all();
        for (std::thread& thread : threads) thread.join();
    }
};

ThreadPool::ThreadPool(size_t num_threads) : state_(std::make_unique<State>()) {
    State* const state = state_.get();
    try {
        for (size_t worker = 0; worker < std::max<size_t>(1, num_threads); ++worker)
            state->threads.emplace_back([state, worker] { state->work(worker); });
    } catch (...) {  // the system gives no more threads: those that run must end before their state does
        state->stop();
        throw;
    }
}

ThreadPool::~ThreadPool() {
    if (state_->owner == ::getpid())
        state_->stop();
    else
        state_.release();  // after a fork: its threads are gone, its locks may be held for ever, so it is leaked
}

size_t ThreadPool::size() const { return state_->threads.size(); }

void ThreadPool::run(size_t count, const std::function<void(size_t, size_t)>& task,
                     const std::function<void()>& meanwhile) {
    State& state = *state_;
    if (state.owner != ::getpid())
        throw std::runtime_error("this process was forked after the thread pool was made; make a new one");
    const std::lock_guard one_caller(state.callers);
    std::unique_lock lock(state.mutex);
    state.task = &task;
    state.count = count;
    state.busy = state.threads.size();
    state.next = 0;
    ++state.round;
    state.wake.notify_all();
    lock.unlock();
    meanwhile();
    lock.lock();
    state.done.wait(lock, [&] { return state.busy == 0; });
    if (cancelled) throw std::runtime_error("rendering was cancelled: the process is ending");
}

void ThreadPool::cancel_all() { cancelled = true; }

bool ThreadPool::are_cancelled() { return cancelled; }

}  // namespace ffcv

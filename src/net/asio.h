// The parts of Asio that this folder uses. Every file includes Asio through here, because all must
// agree on separate compilation: its bodies are compiled once, in boost_src.cc (session file 8.6 s
// -> 7 s; parser only: 1.1 s).
#pragma once

#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
// TSan does not model the fences around Asio's handlers; its queues are under mutexes, which TSan
// does.
#pragma GCC diagnostic ignored "-Wtsan"
#endif
#define BOOST_ASIO_SEPARATE_COMPILATION
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace sluice {
namespace asio = boost::asio;
}  // namespace sluice

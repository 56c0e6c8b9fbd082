// cxx.cc - C++: exceptions through frames, threads and destructors, RTTI, thread_local, iostreams, the library.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <typeinfo>
#include <vector>

static int failures;

static void ok(bool good, const char *what)
{
	std::cout << (good ? "ok " : "FAIL ") << what << std::endl;
	failures += !good;
}

static std::atomic<int> destroyed;
struct Guard {
	~Guard() { destroyed++; }
};

struct Base {
	virtual ~Base() = default;
	virtual int number() const { return 1; }
};
struct Derived : Base {
	int number() const override { return 2; }
};
struct Other : Base {};

[[gnu::noinline]] static int deep(int n)
{
	Guard g;
	if (n == 0)
		throw std::runtime_error("from below");
	return deep(n - 1) + 1;
}

static void exceptions()
{
	destroyed = 0;
	std::string what;
	try {
		deep(500);
	} catch (const std::exception &e) {
		what = e.what();
	}
	ok(what == "from below" && destroyed == 501, "exception unwinds 501 frames");
	int caught = 0;
	for (int i = 0; i < 1000; i++)
		try {
			if (i % 2)
				throw i;
			throw std::string("x");
		} catch (int n) {
			caught += n == i;
		} catch (const std::string &) {
			caught++;
		}
	ok(caught == 1000, "thousand exceptions of two types");
	try {
		try {
			throw std::out_of_range("inner");
		} catch (...) {
			std::throw_with_nested(std::logic_error("outer"));
		}
	} catch (const std::logic_error &e) {
		try {
			std::rethrow_if_nested(e);
			ok(false, "nested exception");
		} catch (const std::out_of_range &inner) {
			ok(std::string(inner.what()) == "inner", "nested exception");
		}
	}
	try {
		std::vector<int> v(3);
		v.at(10) = 1;
		ok(false, "vector::at");
	} catch (const std::out_of_range &) {
		ok(true, "vector::at");
	}
	try {
		std::unique_ptr<char[]> p(new char[size_t(1) << 46]);
		ok(false, "bad_alloc");
	} catch (const std::bad_alloc &) {
		ok(true, "bad_alloc");
	}
	try {
		Other o;
		Base &b = o;
		(void)dynamic_cast<Derived &>(b);
		ok(false, "bad_cast");
	} catch (const std::bad_cast &) {
		ok(true, "bad_cast");
	}
}

static thread_local Guard *per_thread;
static thread_local struct Counted {
	int n = 5;
	~Counted() { destroyed++; }
} counted;

static void threads()
{
	destroyed = 0;
	std::vector<std::thread> all;
	std::atomic<int> good{0};
	for (int i = 0; i < 50; i++)
		all.emplace_back([&good, i] {
			counted.n += i;
			per_thread = nullptr;
			try {
				deep(20 + i);
			} catch (const std::runtime_error &) {
				good += counted.n == 5 + i;
			}
		});
	for (auto &t : all)
		t.join();
	ok(good == 50, "exceptions in 50 threads");
	ok(destroyed == 50 + 50 * 21 + 49 * 50 / 2, "thread_local destructors");

	auto f = std::async(std::launch::async, []() -> int { throw std::domain_error("future"); });
	try {
		f.get();
		ok(false, "exception through a future");
	} catch (const std::domain_error &e) {
		ok(std::string(e.what()) == "future", "exception through a future");
	}
	std::vector<std::future<long>> parts;
	for (long k = 0; k < 8; k++)
		parts.push_back(std::async(std::launch::async, [k] {
			std::vector<long> v(20000);
			std::iota(v.begin(), v.end(), k * 20000);
			return std::accumulate(v.begin(), v.end(), 0L);
		}));
	long sum = 0;
	for (auto &p : parts)
		sum += p.get();
	ok(sum == 159999L * 160000 / 2, "sum by futures");

	std::mutex m;
	std::condition_variable cv;
	bool ready = false;
	std::thread t([&] {
		std::this_thread::sleep_for(std::chrono::milliseconds(10));
		std::lock_guard<std::mutex> l(m);
		ready = true;
		cv.notify_one();
	});
	std::unique_lock<std::mutex> l(m);
	ok(cv.wait_for(l, std::chrono::seconds(20), [&] { return ready; }), "condition variable");
	l.unlock();
	t.join();
}

static void on_signal(int s)
{
	throw s;
}

[[gnu::noinline]] static int faulty(volatile int *p)
{
	Guard g;
	*p = 1;
	return 0;
}

// With -fnon-call-exceptions a handler may throw out of a fault.
static void exception_from_handler()
{
	destroyed = 0;
	struct sigaction sa = {};
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_NODEFER;
	sigaction(SIGSEGV, &sa, nullptr);
	int got = 0;
	for (int i = 0; i < 3; i++)
		try {
			faulty(reinterpret_cast<int *>(16));
		} catch (int s) {
			got += s == SIGSEGV;
		}
	ok(got == 3 && destroyed == 3, "exception out of a signal handler");
}

int main()
{
	exceptions();
	threads();
	exception_from_handler();
	Derived d;
	Base *b = &d;
	ok(typeid(*b) == typeid(Derived) && b->number() == 2, "run-time types");
	std::map<std::string, int> words;
	std::istringstream in("the quick brown fox jumps over the lazy dog the end");
	for (std::string w; in >> w;)
		words[w]++;
	ok(words["the"] == 3 && words.size() == 9, "map of words");
	ok(std::regex_match("gosv-12.34", std::regex("([a-z]+)-(\\d+)\\.(\\d+)")), "regex");
	std::vector<unsigned> v(50000);
	unsigned x = 1;
	for (auto &e : v)
		e = x = x * 1664525 + 1013904223;
	std::sort(v.begin(), v.end());
	ok(std::is_sorted(v.begin(), v.end()), "sort");
	std::cout << (failures ? "FAILED" : "PASSED") << std::endl;
	return failures != 0;
}

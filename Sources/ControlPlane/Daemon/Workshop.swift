import Foundation
import Reactor

/// A thread for work that may take long (the disk, the compiler), so that the loop goes on. Jobs run one after the other; what they
/// give comes back on the loop.
final class Workshop {
    private let queue: JobQueue
    private let finished: Mailbox<Finished>
    private var waiting: [Int: (any Sendable) -> Void] = [:]
    private var nextJob = 0

    private struct Finished: Sendable {
        var job: Int
        var value: any Sendable
    }

    init(name: String, loop: EventLoop) throws(SystemError) {
        queue = JobQueue()
        finished = try Mailbox<Finished>()
        try finished.attach(to: loop) { [weak self] in self?.deliver($0) }
        let queue = queue
        let thread = Thread { queue.run() }
        thread.name = name
        // The compiler walks trees, and YAML may nest.
        thread.stackSize = 8 << 20
        thread.start()
    }

    deinit {
        queue.close()
    }

    /// - Parameters:
    ///   - work: runs on the workshop's thread.
    ///   - then: runs on the loop's.
    func run<Value: Sendable>(_ work: @escaping @Sendable () -> Value, then: @escaping (Value) -> Void) {
        nextJob += 1
        let job = nextJob
        waiting[job] = { value in
            guard let value = value as? Value else { preconditionFailure("a job gave another type than its own") }
            then(value)
        }
        let finished = finished
        queue.add { finished.post(Finished(job: job, value: work())) }
    }

    /// Jobs that are not done.
    var backlog: Int { waiting.count }

    /// Waits until everything that was begun is done; nothing of it comes back any more.
    func finish() {
        queue.close()
        queue.wait()
    }

    private func deliver(_ result: Finished) {
        waiting.removeValue(forKey: result.job)?(result.value)
    }
}

/// Jobs for one thread.
private final class JobQueue: @unchecked Sendable {
    private let condition = NSCondition()
    private var jobs: [@Sendable () -> Void] = []
    private var isClosed = false
    private var isDone = false

    func add(_ job: @escaping @Sendable () -> Void) {
        condition.lock()
        jobs.append(job)
        condition.signal()
        condition.unlock()
    }

    func close() {
        condition.lock()
        isClosed = true
        condition.broadcast()
        condition.unlock()
    }

    func wait() {
        condition.lock()
        while !isDone { condition.wait() }
        condition.unlock()
    }

    /// Until it is closed and empty.
    func run() {
        condition.lock()
        while true {
            if !jobs.isEmpty {
                let job = jobs.removeFirst()
                condition.unlock()
                job()
                condition.lock()
            } else if isClosed {
                break
            } else {
                condition.wait()
            }
        }
        isDone = true
        condition.broadcast()
        condition.unlock()
    }
}

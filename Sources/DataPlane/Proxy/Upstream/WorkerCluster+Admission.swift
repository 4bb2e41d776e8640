import Base
import ProxyConfig
import Reactor
import Resilience
import Telemetry

/// How many requests a cluster takes at a time: max_requests of all workers together, the adaptive limit of this one, and the queue of
/// those that wait for either.
extension WorkerCluster {
    enum Entry {
        case entered
        /// The stream is called when it is its turn; its own timer tells it when that is too late.
        case queued
        case refused
    }

    func enter(_ stream: Stream, now: Instant) -> Entry {
        // Who waits goes first.
        if queue.count == 0, takeRoom(for: stream) { return .entered }
        guard let place = queue.enqueue(QueuedStream(stream), now: now) else { return .refused }
        stream.place.queued = place
        stream.place.expires = now + queue.longestWait
        return .queued
    }

    private func takeRoom(for stream: Stream) -> Bool {
        if limiter?.hasRoom == false {
            _ = limiter?.begin()  // It counts who is refused.
            return false
        }
        if let most = shared.configuration.circuitBreakers.maxRequests {
            guard shared.usage.requests.take(limit: most) else {
                stats.upstreamRqActiveOverflow.increment()
                return false
            }
            stream.place.usage = shared.usage
        }
        if limiter?.begin() == true {
            stream.place.holdsLimiter = true
            stream.place.limiterGeneration = limiterGeneration
        }
        return true
    }

    /// - Parameter latency: nil if it says nothing about queues.
    func leaveLimiter(generation: Int, latency: Nanoseconds?) {
        // One that began under another limit is none of this one's.
        if generation == limiterGeneration { limiter?.end(latency: latency, now: worker.loop.now) }
        admitWaiting()
    }

    func cancel(_ place: AdmissionQueue<QueuedStream>.Place) {
        queue.cancel(place)
    }

    /// Lets those go on who find room now.
    func admitWaiting() {
        guard queue.count > 0, !isAdmitting else { return }
        isAdmitting = true
        defer { isAdmitting = false }
        let now = worker.loop.now
        while let late = queue.expired(now: now) { late.stream.queueTimedOut() }
        while hasRoom, let next = queue.next(now: now) {
            let stream = next.stream
            guard takeRoom(for: stream) else { return stream.queueTimedOut() }
            stream.isAdmittedFromQueue()
        }
    }

    private var hasRoom: Bool {
        guard limiter?.hasRoom != false else { return false }
        guard let most = shared.configuration.circuitBreakers.maxRequests else { return true }
        return shared.usage.requests.value < Int(most)
    }
}

/// A stream in the queue. It leaves the queue before it ends (`Stream.leaveQueue`), so nothing here keeps it.
@safe struct QueuedStream: BitwiseCopyable {
    private let reference: Unmanaged<Stream>

    init(_ stream: Stream) {
        unsafe reference = Unmanaged.passUnretained(stream)
    }

    var stream: Stream { unsafe reference.takeUnretainedValue() }
}

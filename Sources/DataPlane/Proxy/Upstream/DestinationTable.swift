import Base
import HTTP
import Reactor
import Resolver

/// Where one worker's requests to an ORIGINAL_DST cluster go, by their authority. What is not in it the supervisor is asked for, and
/// the stream waits meanwhile.
final class DestinationTable {
    enum Choice {
        case host(WorkerHost)
        /// The stream hears of it by `destinationIsKnown` or `destinationFailed`.
        case wait(StreamWaiter)
        case refuse(DestinationError)
    }

    /// Several authorities may mean the same destination: letters in another case, port 80 said or left out.
    fileprivate final class Entry: Timed {
        let authority: [UInt8]
        let destination: Destination
        var addresses: [SocketAddress] = []
        var hosts: [WorkerHost] = []
        var next = 0
        var renewAt = Instant.never
        var waiters: [StreamWaiter] = []

        init(authority: [UInt8], destination: Destination) {
            self.authority = authority
            self.destination = destination
        }

        /// Streams that the answer did not reach in time.
        override func deadlineReached(now: Instant) {
            fail(.timeout)
        }

        func fail(_ error: DestinationError) {
            let waiting = waiters
            waiters = []
            for waiter in waiting { waiter.stream?.destinationFailed(error) }
        }

        func goOn() {
            let waiting = waiters
            waiters = []
            for waiter in waiting { waiter.stream?.destinationIsKnown() }
        }
    }

    /// How often the supervisor is told of a destination in use: it looks names up again then, and drops what nobody tells of.
    static let renewal = Nanoseconds.seconds(5)
    /// Spellings of authorities. Beyond it all that nobody waits for are forgotten; asking again is one message.
    private static let limit = 2 * OriginalDestinations.limit

    private unowned let cluster: WorkerCluster
    private var entries: [UInt64: Entry] = [:]
    private var hosts: [SocketAddress: WorkerHost] = [:]

    init(cluster: WorkerCluster) {
        self.cluster = cluster
    }

    /// The endpoint for a request.
    func choose(_ head: Head, stream: Stream) -> Choice {
        let worker = cluster.worker
        let key = Self.hash(head)
        if let entry = entries[key], Self.matches(entry.authority, head) {
            if entry.renewAt <= worker.loop.now { ask(entry) }
            if !entry.hosts.isEmpty {
                entry.next = entry.next + 1 < entry.hosts.count ? entry.next + 1 : 0
                return .host(entry.hosts[entry.next])
            }
            return .wait(wait(entry, stream))
        }
        let authority = Array(head.bytes[head.authority])
        guard let destination = Destination(authority: String(decoding: authority, as: UTF8.self)) else { return .refuse(.malformed) }
        if entries.count >= Self.limit { entries = entries.filter { !$0.value.waiters.isEmpty } }
        guard entries.count < Self.limit else { return .refuse(.tooMany) }
        let entry = Entry(authority: authority, destination: destination)
        if let other = entries.updateValue(entry, forKey: key) {
            // Another authority of the same hash.
            worker.loop.cancelDeadline(other)
            other.fail(.tooMany)
        }
        ask(entry)
        return .wait(wait(entry, stream))
    }

    private func ask(_ entry: Entry) {
        entry.renewAt = cluster.worker.loop.now + Self.renewal
        cluster.worker.ask(for: entry.destination, cluster: cluster.shared.name)
    }

    private func wait(_ entry: Entry, _ stream: Stream) -> StreamWaiter {
        if entry.waiters.isEmpty {
            cluster.worker.loop.setDeadline(entry, cluster.worker.loop.now + cluster.connectTimeout)
            // It was known once and is not any more: the last question may have been answered already.
            if entry.renewAt > cluster.worker.loop.now, !entry.addresses.isEmpty { ask(entry) }
        }
        let waiter = StreamWaiter(stream)
        entry.waiters.append(waiter)
        return waiter
    }

    /// The supervisor's answer. The endpoints themselves came before it.
    func answered(_ destination: Destination, _ outcome: OriginalDestinations.Outcome) {
        for (key, entry) in entries where entry.destination == destination {
            switch outcome {
            case .success(let addresses):
                entry.addresses = addresses
                entry.hosts = addresses.compactMap { hosts[$0] }
                if entry.hosts.isEmpty { continue }  // Dropped in between; who waits asks again or times out.
                cluster.worker.loop.cancelDeadline(entry)
                entry.goOn()
            case .failure(let error):
                entries[key] = nil
                cluster.worker.loop.cancelDeadline(entry)
                entry.fail(error)
            }
        }
    }

    /// The cluster has other endpoints than before.
    func update(hosts list: [WorkerHost]) {
        hosts = Dictionary(uniqueKeysWithValues: list.map { ($0.shared.address, $0) })
        for (key, entry) in entries {
            entry.hosts = entry.addresses.compactMap { hosts[$0] }
            if entry.hosts.isEmpty, entry.waiters.isEmpty { entries[key] = nil }
        }
    }

    /// The cluster is gone.
    func leave() {
        let left = entries.values
        entries = [:]
        hosts = [:]
        for entry in left {
            cluster.worker.loop.cancelDeadline(entry)
            entry.fail(.unresolved(.other("the configuration changed")))
        }
    }

    /// FNV-1a.
    private static func hash(_ head: Head) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        let bytes = head.bytes
        for index in head.authority { hash = (hash ^ UInt64(bytes[index])) &* 0x0000_0100_0000_01b3 }
        return hash
    }

    private static func matches(_ authority: [UInt8], _ head: Head) -> Bool {
        guard authority.count == head.authority.count else { return false }
        let (bytes, start) = (head.bytes, head.authority.lowerBound)
        for index in authority.indices where authority[index] != bytes[start + index] { return false }
        return true
    }
}

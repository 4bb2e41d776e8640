public import Base
import CCares
import Glibc
public import Reactor

/// Which addresses of a name are wanted (Envoy's DnsLookupFamily).
public enum LookupFamily: String, Hashable, Sendable {
    case v4Only
    case v6Only
    /// IPv6 only where the name has no IPv4 address.
    case v4Preferred
    /// IPv4 only where the name has no IPv6 address.
    case v6Preferred
    case all
}

/// How names are looked up. What is not said here comes from /etc/resolv.conf and /etc/nsswitch.conf.
public struct ResolverOptions: Sendable {
    /// Asked instead of the machine's name servers.
    public var servers: [SocketAddress] = []
    /// Instead of the machine's.
    public var searchDomains: [String]?
    /// For the first try; c-ares doubles it with every further one.
    public var timeout = Duration.seconds(2)
    /// Of each server.
    public var tries = 2
    /// Lookups beyond it wait for their turn: a snapshot with thousands of names must not flood a name server.
    public var maxConcurrentLookups = 64
    /// Lookups beyond it are refused.
    public var maxWaitingLookups = 20_000

    public init() {}
}

/// What a name stands for.
public struct Answer: Hashable, Sendable {
    /// Each once, IPv4 first, by number. Never empty; at most `Resolver.maxAddresses`.
    public var addresses: [IPAddress]
    /// The smallest of all records on the way, aliases too. Nil without one: from /etc/hosts, or where it is zero.
    public var ttl: Nanoseconds?
    /// Of this version there may be more addresses, but the question failed; `addresses` are of the other.
    public var unanswered: IPVersion?

    public init(addresses: [IPAddress], ttl: Nanoseconds?, unanswered: IPVersion? = nil) {
        self.addresses = addresses
        self.ttl = ttl
        self.unanswered = unanswered
    }
}

public enum IPVersion: String, Hashable, Sendable {
    case v4
    case v6

    init(_ address: IPAddress) {
        self = address.isV4 ? .v4 : .v6
    }
}

/// Why a name has no addresses.
public enum ResolveError: Error, Hashable, Sendable, CustomStringConvertible {
    /// NXDOMAIN: there is no such name.
    case notFound
    /// The name exists, without an address of the wanted family.
    case noAddresses
    /// Every name server said SERVFAIL or REFUSED, or was not there.
    case serverFailure
    case timeout
    /// The answer cannot be read.
    case malformedAnswer
    /// Not a host name (RFC 1123 section 2.1, underscores allowed): nothing was asked.
    case invalidName
    /// Too many lookups wait already: nothing was asked.
    case overloaded
    /// What else c-ares says.
    case other(String)

    public var description: String {
        switch self {
        case .notFound: "no such name (NXDOMAIN)"
        case .noAddresses: "no addresses"
        case .serverFailure: "no name server gave an answer (SERVFAIL, REFUSED, or not reachable)"
        case .timeout: "timeout"
        case .malformedAnswer: "malformed answer"
        case .invalidName: "not a host name"
        case .overloaded: "too many lookups"
        case .other(let text): text
        }
    }

    /// A short word, for labels.
    public var label: String {
        switch self {
        case .notFound: "nxdomain"
        case .noAddresses: "no_addresses"
        case .serverFailure: "server_failure"
        case .timeout: "timeout"
        case .malformedAnswer: "malformed"
        case .invalidName: "invalid_name"
        case .overloaded: "overloaded"
        case .other: "other"
        }
    }

    /// The name servers have spoken: asking the same again brings the same.
    var isDefinite: Bool { self == .notFound || self == .noAddresses || self == .invalidName }
}

/// Turns names into addresses without blocking: /etc/hosts, search domains, aliases, retries, TCP for long answers (by c-ares).
///
/// Confined to the thread of its loop.
public final class Resolver {
    public typealias Completion = (Result<Answer, ResolveError>) -> Void

    /// Of one name; the rest is left out. A TCP answer can hold four times as many, and a cluster is not better for them.
    public static let maxAddresses = 1000

    private let loop: EventLoop
    private let options: ResolverOptions
    private var channel: AresChannel
    private var channelConfiguration: FileStamp
    private var waiting: [ResolverQuery] = []
    /// Of `waiting`: what stands before it has begun.
    private var firstWaiting = 0
    private var running = 0
    private var finished: [ResolverQuery] = []
    private let timer = ResolverTimer()

    /// - Throws: when c-ares cannot read its configuration or has no memory.
    public init(loop: EventLoop, options: ResolverOptions = ResolverOptions()) throws(ResolveError) {
        self.loop = loop
        self.options = options
        channelConfiguration = FileStamp(AresChannel.configurationPath)
        channel = try AresChannel(loop: loop, options: options)
        listen()
    }

    deinit {
        loop.cancelDeadline(timer)
        channel.close()
    }

    private func listen() {
        channel.processed = { [unowned self] in settle() }
        timer.action = { [unowned self] in
            channel.process()
            settle()
        }
    }

    /// Looks `name` up. The completion is called once, later, never from within this call; not at all after `cancel`.
    @discardableResult
    public func resolve(_ name: String, family: LookupFamily, completion: @escaping Completion) -> ResolverQuery {
        let query = ResolverQuery(name: name, family: family, completion: completion)
        if let ip = IPAddress(name) {
            query.finish(with: family.accepts(ip) ? .success(Answer(addresses: [ip], ttl: nil)) : .failure(.noAddresses))
            finished.append(query)
        } else if !Self.isHostName(name) {
            query.finish(with: .failure(.invalidName))
            finished.append(query)
        } else if waiting.count - firstWaiting >= options.maxWaitingLookups {
            query.finish(with: .failure(.overloaded))
            finished.append(query)
        } else {
            waiting.append(query)
            beginWaiting()
        }
        arm()
        return query
    }

    private func beginWaiting() {
        while running < options.maxConcurrentLookups, firstWaiting < waiting.count {
            let query = waiting[firstWaiting]
            firstWaiting += 1
            if query.isCancelled { continue }
            begin(query)
        }
        if firstWaiting == waiting.count {
            waiting.removeAll(keepingCapacity: true)
            firstWaiting = 0
        } else if firstWaiting > 1024 {
            waiting.removeFirst(firstWaiting)
            firstWaiting = 0
        }
    }

    private func begin(_ query: ResolverQuery) {
        if running == 0 { followConfiguration() }
        running += 1
        let versions = query.family.versions
        query.openLookups = versions.count
        for version in versions {
            // Two lookups instead of one for both versions: c-ares tells of the latter only that one of the two succeeded, and a failed
            // half would pass for an answer without such addresses.
            channel.lookUp(query.name, version) { [unowned self] result in
                query.results[version] = result
                query.openLookups -= 1
                guard query.openLookups == 0 else { return }
                query.combine()
                running -= 1
                finished.append(query)
            }
        }
    }

    /// c-ares reads resolv.conf once. A container's may change under a running process: look before asking, while nothing is under way.
    private func followConfiguration() {
        let stamp = FileStamp(AresChannel.configurationPath)
        guard stamp != channelConfiguration else { return }
        channelConfiguration = stamp
        guard let next = try? AresChannel(loop: loop, options: options) else { return }  // Unreadable just now: the old one goes on.
        channel.close()
        channel = next
        listen()
    }

    /// Tells what is finished, begins what waited. Only from the loop, never inside c-ares: completions may ask again.
    private func settle() {
        beginWaiting()
        let done = finished
        finished.removeAll(keepingCapacity: true)
        for query in done { query.complete() }
        arm()
    }

    private func arm() {
        if !finished.isEmpty {
            loop.setDeadline(timer, loop.now)
        } else if let wait = channel.nextTimeout() {
            loop.setDeadline(timer, loop.now + wait)
        } else {
            loop.setDeadline(timer, .never)
        }
    }

    /// Whether it may be asked for: labels of 1 to 63 letters, digits, hyphens and underscores, 253 bytes in all, perhaps with a final dot.
    public static func isHostName(_ name: String) -> Bool {
        var bytes = Array(name.utf8)
        if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
        guard (1...253).contains(bytes.count) else { return false }
        return bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.count)
                && label.allSatisfy { byte in
                    switch byte {
                    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "-"), UInt8(ascii: "_"): true
                    default: false
                    }
                }
        }
    }
}

/// A lookup under way.
public final class ResolverQuery {
    let name: String
    let family: LookupFamily
    var openLookups = 0
    var results: [IPVersion: Result<Answer, ResolveError>] = [:]
    private var completion: Resolver.Completion?
    private var outcome: Result<Answer, ResolveError>?

    init(name: String, family: LookupFamily, completion: @escaping Resolver.Completion) {
        self.name = name
        self.family = family
        self.completion = completion
    }

    /// The completion will not be called. What has been asked runs to its end unseen: c-ares can only cancel everything.
    public func cancel() {
        completion = nil
    }

    var isCancelled: Bool { completion == nil }

    func finish(with outcome: Result<Answer, ResolveError>) {
        self.outcome = outcome
    }

    func complete() {
        guard let completion, let outcome else { return }
        self.completion = nil
        completion(outcome)
    }

    func combine() {
        outcome = family.combine(results)
        results = [:]
    }
}

extension LookupFamily {
    var versions: [IPVersion] {
        switch self {
        case .v4Only: [.v4]
        case .v6Only: [.v6]
        case .v4Preferred, .v6Preferred, .all: [.v4, .v6]
        }
    }

    func accepts(_ address: IPAddress) -> Bool {
        versions.contains(IPVersion(address))
    }

    /// The version whose addresses hide those of the other.
    var preferred: IPVersion? {
        switch self {
        case .v4Preferred: .v4
        case .v6Preferred: .v6
        case .v4Only, .v6Only, .all: nil
        }
    }

    /// One answer from those to the questions for each version.
    func combine(_ results: [IPVersion: Result<Answer, ResolveError>]) -> Result<Answer, ResolveError> {
        var answers: [IPVersion: Answer] = [:]
        var errors: [IPVersion: ResolveError] = [:]
        for (version, result) in results {
            switch result {
            case .success(let answer): answers[version] = answer
            case .failure(let error): errors[version] = error
            }
        }
        if let preferred, let answer = answers[preferred] { return .success(answer) }
        let failed = versions.filter { errors[$0].map { !$0.isDefinite } ?? false }
        if answers.isEmpty {
            let error = failed.first.flatMap { errors[$0] } ?? (errors.values.contains(.noAddresses) ? .noAddresses : .notFound)
            return .failure(error)
        }
        // Both hold at most `maxAddresses`; so does their union, without hiding one version behind the other.
        let known = versions.compactMap { answers[$0] }
        let share = Resolver.maxAddresses / known.count
        let room = known.map(\.addresses.count).reduce(0, +) <= Resolver.maxAddresses ? Resolver.maxAddresses : share
        return .success(
            Answer(
                addresses: known.flatMap { $0.addresses.prefix(room) }, ttl: known.compactMap(\.ttl).min(), unanswered: failed.first))
    }
}

private final class ResolverTimer: Timed {
    var action: () -> Void = {}

    override func deadlineReached(now: Instant) {
        action()
    }
}

/// Tells whether a file is another than before.
private struct FileStamp: Equatable {
    private var node: UInt64 = 0
    private var size: Int64 = 0
    private var seconds: Int = 0
    private var nanoseconds: Int = 0

    init(_ path: String) {
        var info = stat()
        guard unsafe stat(path, &info) == 0 else { return }
        node = UInt64(info.st_ino)
        size = Int64(info.st_size)
        seconds = info.st_mtim.tv_sec
        nanoseconds = info.st_mtim.tv_nsec
    }
}

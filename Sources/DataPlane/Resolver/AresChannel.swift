import Base
import CCares
import Glibc
import Reactor

/// A c-ares channel whose sockets and timeouts live on a loop. Nothing outside of this file sees a type of c-ares.
@safe final class AresChannel {
    static let configurationPath = "/etc/resolv.conf"

    /// Called after c-ares has worked on its sockets, outside of it.
    var processed: () -> Void = {}

    private let loop: EventLoop
    @safe private var channel: ares_channel?
    private var sockets: [CInt: AresSocket] = [:]

    /// Once a process, before the first channel.
    private static let library: CInt = ares_library_init(ARES_LIB_INIT_NONE)

    init(loop: EventLoop, options: ResolverOptions) throws(ResolveError) {
        self.loop = loop
        guard Self.library == ARES_SUCCESS else { throw ResolveError(Self.library) }
        var settings = unsafe ares_options()
        unsafe settings.timeout = CInt(clamping: Nanoseconds(options.timeout).milliseconds)
        unsafe settings.tries = CInt(options.tries)
        // The channel is destroyed in `close`, which its owner calls before it lets go of this object.
        unsafe settings.sock_state_cb_data = Unmanaged.passUnretained(self).toOpaque()
        unsafe settings.sock_state_cb = { data, socket, readable, writable in
            let channel = unsafe Unmanaged<AresChannel>.fromOpaque(data!).takeUnretainedValue()
            channel.watch(socket, readable: readable != 0, writable: writable != 0)
        }
        var mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB
        var domains: [UnsafeMutablePointer<CChar>?] = unsafe []
        if let names = options.searchDomains {
            mask |= ARES_OPT_DOMAINS
            unsafe domains = names.map { unsafe strdup($0) }
        }
        // c-ares copies the domains.
        defer { unsafe domains.forEach { unsafe free($0) } }
        var status = unsafe domains.withUnsafeMutableBufferPointer { domains in
            unsafe settings.domains = domains.baseAddress
            unsafe settings.ndomains = CInt(domains.count)
            return unsafe ares_init_options(&channel, &settings, mask)
        }
        guard status == ARES_SUCCESS else { throw ResolveError(status) }
        guard !options.servers.isEmpty else { return }
        status = unsafe ares_set_servers_ports_csv(channel, options.servers.map(\.description).joined(separator: ","))
        if status != ARES_SUCCESS {
            close()
            throw ResolveError(status)
        }
    }

    /// Ends every lookup without a word.
    func close() {
        guard let open = channel else { return }
        // Cancelled first: c-ares 1.18 frees a lookup twice when it is destroyed with two questions open.
        unsafe ares_cancel(open)
        unsafe ares_destroy(open)
        channel = nil
    }

    deinit {
        precondition(unsafe channel == nil, "a c-ares channel is closed by its owner")
    }

    // MARK: Lookups

    /// Asks for the addresses of one version. The completion is called once, from within c-ares, perhaps before this returns.
    func lookUp(_ name: String, _ version: IPVersion, completion: @escaping (Result<Answer, ResolveError>) -> Void) {
        // Not sorted: RFC 6724 order would cost a socket for each address, and every address is used anyway.
        var hints = ares_addrinfo_hints(
            ai_flags: ARES_AI_NOSORT, ai_family: version == .v4 ? AF_INET : AF_INET6, ai_socktype: CInt(SOCK_STREAM.rawValue),
            ai_protocol: 0)
        let lookup = unsafe Unmanaged.passRetained(AresLookup(completion)).toOpaque()
        unsafe ares_getaddrinfo(
            channel, name, nil, &hints,
            { argument, status, _, info in
                // Retained above for this one call; c-ares makes it exactly once.
                let lookup = unsafe Unmanaged<AresLookup>.fromOpaque(argument!).takeRetainedValue()
                let result = unsafe AresChannel.result(status, info)
                if let info = unsafe info { unsafe ares_freeaddrinfo(info) }
                // Only `close` cancels: nobody is there any more.
                if status != ARES_ECANCELLED { lookup.completion(result) }
            }, lookup)
    }

    private static func result(_ status: CInt, _ info: UnsafeMutablePointer<ares_addrinfo>?) -> Result<Answer, ResolveError> {
        guard status == ARES_SUCCESS, let info = unsafe info else { return .failure(ResolveError(status)) }
        var addresses: Set<IPAddress> = []
        var ttl = CInt.max
        func lower(_ seconds: CInt) {
            if seconds > 0 { ttl = min(ttl, seconds) }
        }
        var alias = unsafe info.pointee.cnames
        while let record = unsafe alias {
            lower(unsafe record.pointee.ttl)
            unsafe alias = record.pointee.next
        }
        var node = unsafe info.pointee.nodes
        while let record = unsafe node {
            lower(unsafe record.pointee.ai_ttl)
            if let address = unsafe address(record.pointee) { addresses.insert(address) }
            unsafe node = record.pointee.ai_next
        }
        guard !addresses.isEmpty else { return .failure(.noAddresses) }
        return .success(
            Answer(
                addresses: Array(addresses.sorted().prefix(Resolver.maxAddresses)), ttl: ttl == .max ? nil : .seconds(Int64(ttl))))
    }

    private static func address(_ node: ares_addrinfo_node) -> IPAddress? {
        guard let raw = unsafe UnsafeRawPointer(node.ai_addr) else { return nil }
        switch unsafe node.ai_family {
        case AF_INET:
            return unsafe .v4(UInt32(bigEndian: raw.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr))
        case AF_INET6:
            let bytes = unsafe raw + MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr)!
            return unsafe .v6(
                UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        default: return nil
        }
    }

    // MARK: The loop

    /// What c-ares wants to know of a socket; nothing means that it is about to close it.
    private func watch(_ socket: CInt, readable: Bool, writable: Bool) {
        if !readable, !writable {
            if let source = sockets.removeValue(forKey: socket) { loop.forget(source) }
            return
        }
        let source = sockets[socket] ?? AresSocket(socket, channel: self)
        sockets[socket] = source
        var interest: Readiness = []
        if readable { interest.insert(.readable) }
        if writable { interest.insert(.writable) }
        do {
            try loop.watch(source, for: interest)
        } catch {
            // Not watched, the question ends with its timeout, and it is asked again later.
            sockets[socket] = nil
        }
    }

    fileprivate func ready(_ source: AresSocket, _ readiness: Readiness) {
        guard let channel else { return }
        let socket = source.descriptor
        let isBroken = !readiness.isDisjoint(with: [.hangup, .error])
        unsafe ares_process_fd(
            channel, isBroken || readiness.contains(.readable) ? socket : ARES_SOCKET_BAD,
            isBroken || readiness.contains(.writable) ? socket : ARES_SOCKET_BAD)
        processed()
    }

    /// Gives up or repeats the questions whose time is over.
    func process() {
        guard let channel else { return }
        unsafe ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD)
    }

    /// Until `process` is due; nil with nothing under way.
    func nextTimeout() -> Nanoseconds? {
        guard let channel else { return nil }
        var wait = timeval()
        guard unsafe ares_timeout(channel, nil, &wait) != nil else { return nil }
        return Nanoseconds(count: Int64(wait.tv_sec) * 1_000_000_000 + Int64(wait.tv_usec) * 1000)
    }
}

/// A socket of c-ares on the loop.
private final class AresSocket: EventSource {
    private let channel: AresChannel

    init(_ socket: CInt, channel: AresChannel) {
        self.channel = channel
        super.init(adopting: socket)
    }

    override func ready(_ readiness: Readiness) {
        channel.ready(self, readiness)
    }
}

private final class AresLookup {
    let completion: (Result<Answer, ResolveError>) -> Void

    init(_ completion: @escaping (Result<Answer, ResolveError>) -> Void) {
        self.completion = completion
    }
}

extension ResolveError {
    fileprivate init(_ status: CInt) {
        switch status {
        case ARES_ENOTFOUND, ARES_ENONAME: self = .notFound
        case ARES_ENODATA: self = .noAddresses
        // After SERVFAIL or REFUSED of every server c-ares reports ECONNREFUSED.
        case ARES_ESERVFAIL, ARES_EREFUSED, ARES_ECONNREFUSED: self = .serverFailure
        case ARES_ETIMEOUT: self = .timeout
        case ARES_EBADRESP, ARES_EFORMERR: self = .malformedAnswer
        case ARES_EBADNAME: self = .invalidName
        default: self = .other(unsafe String(cString: ares_strerror(status)))
        }
    }
}

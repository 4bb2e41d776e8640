internal import CNghttp2
internal import HTTP

/// The fields of an outgoing head as the library takes them, made anew for each head in the same memory.
///
/// The library copies names and values when they are submitted, and makes names lower case as it does so.
@safe struct FieldList: ~Copyable {
    private var base: UnsafeMutablePointer<nghttp2_nv>
    private var capacity = 128
    private var count = 0

    init() {
        unsafe base = .allocate(capacity: capacity)
    }

    deinit {
        unsafe base.deallocate()
    }

    // MARK: Heads

    mutating func withRequest<Result>(
        _ head: Head, extendedConnect: Range<Int>?, _ body: (UnsafeMutableBufferPointer<nghttp2_nv>) -> Result
    ) -> Result {
        count = 0
        let bytes = head.bytes
        return unsafe bytes.withUnsafeBufferPointer { source in
            // The library's pointers may not be nil.
            let start = unsafe source.baseAddress ?? UnsafePointer(bitPattern: 1).unsafelyUnwrapped
            let isConnect = head.method == .connect && extendedConnect == nil
            if let name = extendedConnect {
                add(":method", "CONNECT")
                unsafe add(":protocol", start, name)
            } else {
                unsafe add(":method", start, head.methodRange)
            }
            if !isConnect {
                add(":scheme", head.scheme == .https ? "https" : "http")
            }
            if !head.authority.isEmpty { unsafe add(":authority", start, head.authority) }
            if !isConnect {
                if head.target.isEmpty { add(":path", "/") } else { unsafe add(":path", start, head.target) }
            }
            unsafe addFields(head, bytes.rawBytes, start, isRequest: true, isExtendedConnect: extendedConnect != nil)
            return unsafe body(UnsafeMutableBufferPointer(start: base, count: count))
        }
    }

    mutating func withResponse<Result>(
        _ head: Head, status: Int, _ body: (UnsafeMutableBufferPointer<nghttp2_nv>) -> Result
    ) -> Result {
        precondition(status >= 100 && status <= 999, "a status of \(status)")
        count = 0
        let bytes = head.bytes
        return unsafe bytes.withUnsafeBufferPointer { source in
            let start = unsafe source.baseAddress ?? UnsafePointer(bitPattern: 1).unsafelyUnwrapped
            return unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 3) { digits in
                unsafe digits.initializeElement(at: 0, to: 0x30 &+ UInt8(truncatingIfNeeded: status / 100))
                unsafe digits.initializeElement(at: 1, to: 0x30 &+ UInt8(truncatingIfNeeded: status / 10 % 10))
                unsafe digits.initializeElement(at: 2, to: 0x30 &+ UInt8(truncatingIfNeeded: status % 10))
                unsafe add(":status", UnsafePointer(digits.baseAddress.unsafelyUnwrapped), 0..<3)
                unsafe addFields(head, bytes.rawBytes, start, isRequest: false)
                return unsafe body(UnsafeMutableBufferPointer(start: base, count: count))
            }
        }
    }

    mutating func withTrailers<Result>(_ trailers: Head, _ body: (UnsafeMutableBufferPointer<nghttp2_nv>) -> Result) -> Result {
        count = 0
        let bytes = trailers.bytes
        return unsafe bytes.withUnsafeBufferPointer { source in
            let start = unsafe source.baseAddress ?? UnsafePointer(bitPattern: 1).unsafelyUnwrapped
            for field in trailers.fields where field.isAllowedInTrailers(trailers) {
                unsafe add(field, bytes.rawBytes, start)
            }
            return unsafe body(UnsafeMutableBufferPointer(start: base, count: count))
        }
    }

    // MARK: Fields

    /// All but hop-by-hop fields, what Connection nominates, and Host, which `:authority` has said (RFC 9113 section 8.2.2).
    private mutating func addFields(
        _ head: Head, _ source: RawSpan, _ start: UnsafePointer<UInt8>, isRequest: Bool, isExtendedConnect: Bool = false
    ) {
        let fields = head.fields
        var nominates = false
        if !head.isHTTP2 {
            for field in fields where field.known == .connection {
                nominates = nominates || source.nominatesOthers(field.value)
            }
        }
        var owesTE = isRequest
        for field in fields {
            switch field.known {
            case .other:
                if nominates, field.isNominated(head, source), !field.isEndToEnd(head) { continue }
                // Its place is taken by `:protocol` (RFC 8441 section 5).
                if isExtendedConnect, head.equals(field.name, "sec-websocket-key") { continue }
            case .host where isRequest:
                continue
            case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade, .http2Settings:
                continue
            case .te:
                if owesTE, source.acceptsTrailers(field.value) {
                    owesTE = false
                    add("te", "trailers")
                }
                continue
            default:
                break
            }
            unsafe add(field, source, start)
        }
    }

    /// Adds the field unless its bytes could end it early: both decoders refuse such, and this is the last gate for what we add.
    @inline(__always)
    private mutating func add(_ field: Head.Field, _ source: RawSpan, _ start: UnsafePointer<UInt8>) {
        let name = field.name
        let value = field.value
        guard source.isName(name), source.isValue(value) else {
            assertionFailure("a field that must not be sent")
            return
        }
        // The id of one request never comes again: in the table it would push out what does, and every later search for one would
        // compare it with all that are there.
        let flags = field.neverIndexed || field.known == .requestID ? NGHTTP2_NV_FLAG_NO_INDEX.rawValue : 0
        unsafe append(start + name.lowerBound, name.count, start + value.lowerBound, value.count, UInt8(flags))
    }

    private mutating func add(_ name: StaticString, _ value: StaticString) {
        unsafe append(name.utf8Start, name.utf8CodeUnitCount, value.utf8Start, value.utf8CodeUnitCount, 0)
    }

    private mutating func add(_ name: StaticString, _ start: UnsafePointer<UInt8>, _ value: Range<Int>) {
        unsafe append(name.utf8Start, name.utf8CodeUnitCount, start + value.lowerBound, value.count, 0)
    }

    @inline(__always)
    private mutating func append(
        _ name: UnsafePointer<UInt8>, _ nameLength: Int, _ value: UnsafePointer<UInt8>, _ valueLength: Int, _ flags: UInt8
    ) {
        if count == capacity { grow() }
        unsafe (base + count).initialize(
            to: nghttp2_nv(
                name: UnsafeMutablePointer(mutating: name), value: UnsafeMutablePointer(mutating: value), namelen: nameLength,
                valuelen: valueLength, flags: flags))
        count &+= 1
    }

    @inline(never)
    private mutating func grow() {
        let grown = UnsafeMutablePointer<nghttp2_nv>.allocate(capacity: capacity * 2)
        unsafe grown.update(from: base, count: count)
        unsafe base.deallocate()
        unsafe base = grown
        capacity *= 2
    }
}

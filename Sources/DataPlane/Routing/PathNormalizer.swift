public import HTTP

/// Why a request target was refused. The answer is 400.
public enum PathError: Error, Hashable, Sendable {
    /// A byte up to and with the space, or DEL.
    case controlByte
    /// `#`: a fragment never travels (RFC 9112 section 3.2).
    case fragment
    /// A raw backslash, which some servers take for a slash.
    case backslash
    /// `%00`.
    case encodedNUL
    /// `%` without two hexadecimal digits after it.
    case invalidEscape
    /// Neither a path, nor `*` of OPTIONS, nor the authority of CONNECT.
    case notAbsolute
    /// A segment such as `..;x`: servers that cut path parameters off see `..`, all others see a name.
    case dotSegmentParameter
    /// A prefix rewrite would make a dot segment where there was none: `/a../b` under `/a` → `/x/`.
    case rewriteMakesDotSegment

    /// For the response details of the access log.
    public var details: StaticString {
        switch self {
        case .controlByte: "path_normalization_failed{control_byte}"
        case .fragment: "path_normalization_failed{fragment}"
        case .backslash: "path_normalization_failed{backslash}"
        case .encodedNUL: "path_normalization_failed{encoded_nul}"
        case .invalidEscape: "path_normalization_failed{invalid_escape}"
        case .notAbsolute: "path_normalization_failed{not_absolute}"
        case .dotSegmentParameter: "path_normalization_failed{dot_segment_parameter}"
        case .rewriteMakesDotSegment: "path_rewrite_failed{dot_segment}"
        }
    }
}

/// Gives a request's path its one normal form, which routing, policy and the upstream server then all see.
///
/// The form (RFC 3986 section 6.2.2, and docs/decisions/0010-path-normal-form.md for what it leaves open): escapes of unreserved characters
/// decoded once, other escapes in upper-case hexadecimal, raw bytes from 0x80 escaped, runs of slashes merged, then dot segments
/// removed. `%2F` and `%5C` stay as they are and separate nothing. The query stays untouched, but for bytes that no target may hold.
public enum PathNormalizer {
    /// Brings `head.target` into its normal form.
    ///
    /// A path that is normal already, nearly every one, costs a scan. Otherwise the normal form with the query is appended to
    /// `head.bytes`, and `head.target` points there. `*` of OPTIONS and the authority of CONNECT stay as they are.
    public static func normalize(_ head: Head) throws(PathError) {
        let target = head.target
        if isNormal(head, target) { return }
        let first = target.isEmpty ? UInt8(ascii: "?") : head.bytes[target.lowerBound]
        if first != UInt8(ascii: "/") {
            if head.method == .connect { return }
            if head.method == .options, target.count == 1, first == UInt8(ascii: "*") { return }
            // The path of `http://host` and of `http://host?query` is empty, which means `/`.
            guard first == UInt8(ascii: "?") else { throw .notAbsolute }
        }
        let start = head.bytes.count
        do {
            try appendNormalForm(head, target)
        } catch {
            head.bytes.removeLast(head.bytes.count - start)
            throw error
        }
        if isSame(head, target, start..<head.bytes.count) {
            head.bytes.removeLast(head.bytes.count - start)
        } else {
            head.target = start..<head.bytes.count
        }
    }

    /// Whether nothing in the target needs a closer look. Rarely false for a normal path (`/.well-known`, `/a%20b`), never true for
    /// another.
    private static func isNormal(_ head: Head, _ target: Range<Int>) -> Bool {
        let storage = head.bytes
        guard !target.isEmpty, storage[target.lowerBound] == UInt8(ascii: "/") else { return false }
        let bytes = unsafe storage.span.bytes
        precondition(target.upperBound <= bytes.byteCount, "a target outside of its head's bytes")
        let space = SIMD16<UInt8>(repeating: 0x20)
        let delete = SIMD16<UInt8>(repeating: 0x7f)
        let percent = SIMD16<UInt8>(repeating: UInt8(ascii: "%"))
        let hash = SIMD16<UInt8>(repeating: UInt8(ascii: "#"))
        let backslash = SIMD16<UInt8>(repeating: UInt8(ascii: "\\"))
        let question = SIMD16<UInt8>(repeating: UInt8(ascii: "?"))
        let slash = SIMD16<UInt8>(repeating: UInt8(ascii: "/"))
        let dot = SIMD16<UInt8>(repeating: UInt8(ascii: "."))
        var index = target.lowerBound
        // What follows the target in the head is read too, and then ignored.
        while index < target.upperBound, index + 17 <= bytes.byteCount {
            let here = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index, as: SIMD16<UInt8>.self)
            let next = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index + 1, as: SIMD16<UInt8>.self)
            var odd = (here .<= space) .| (here .>= delete) .| (here .== percent) .| (here .== hash) .| (here .== backslash)
            odd = odd .| (here .== question) .| ((here .== slash) .& ((next .== slash) .| (next .== dot)))
            let lane = odd.firstLane
            index += lane
            if lane == 16 { continue }
            if index >= target.upperBound { return true }
            let byte = unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            if byte == UInt8(ascii: "?") { return isClean(bytes, index + 1..<target.upperBound) }
            return byte == UInt8(ascii: "/") && index + 1 == target.upperBound
        }
        while index < target.upperBound {
            let byte = unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            switch byte {
            case UInt8(ascii: "?"):
                return isClean(bytes, index + 1..<target.upperBound)
            case 0...0x20, 0x7f..., UInt8(ascii: "%"), UInt8(ascii: "#"), UInt8(ascii: "\\"):
                return false
            case UInt8(ascii: "/") where index + 1 < target.upperBound:
                let next = unsafe bytes.unsafeLoad(fromByteOffset: index + 1, as: UInt8.self)
                if next == UInt8(ascii: "/") || next == UInt8(ascii: ".") { return false }
            default:
                break
            }
            index += 1
        }
        return true
    }

    /// Whether a query holds no byte that a target may not hold.
    private static func isClean(_ bytes: RawSpan, _ query: Range<Int>) -> Bool {
        let space = SIMD16<UInt8>(repeating: 0x20)
        let delete = SIMD16<UInt8>(repeating: 0x7f)
        let hash = SIMD16<UInt8>(repeating: UInt8(ascii: "#"))
        var index = query.lowerBound
        // What follows the query is read too, and then ignored.
        while index < query.upperBound, index + 16 <= bytes.byteCount {
            let here = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index, as: SIMD16<UInt8>.self)
            let lane = ((here .<= space) .| (here .== delete) .| (here .== hash)).firstLane
            if lane < 16 { return index + lane >= query.upperBound }
            index += 16
        }
        while index < query.upperBound {
            let byte = unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
            if byte <= 0x20 || byte == 0x7f || byte == UInt8(ascii: "#") { return false }
            index += 1
        }
        return true
    }

    /// Appends the normal form of path and query to `head.bytes`. One pass; a removed segment is gone over once more.
    private static func appendNormalForm(_ head: Head, _ target: Range<Int>) throws(PathError) {
        head.bytes.append(UInt8(ascii: "/"))
        let root = head.bytes.count
        var segment = root
        var index = target.lowerBound
        while index < target.upperBound {
            let byte = head.bytes[index]
            index += 1
            switch byte {
            case UInt8(ascii: "?"):
                try endSegment(head, root: root, segment: &segment)
                head.bytes.append(byte)
                while index < target.upperBound {
                    let byte = head.bytes[index]
                    if byte == UInt8(ascii: "#") { throw .fragment }
                    if byte <= 0x20 || byte == 0x7f { throw .controlByte }
                    head.bytes.append(byte)
                    index += 1
                }
                return
            case UInt8(ascii: "/"):
                try endSegment(head, root: root, segment: &segment)
                if head.bytes.count > segment {
                    head.bytes.append(byte)
                    segment = head.bytes.count
                }
            case UInt8(ascii: "%"):
                guard index + 2 <= target.upperBound, let high = hexDigit(head.bytes[index]), let low = hexDigit(head.bytes[index + 1])
                else {
                    throw .invalidEscape
                }
                index += 2
                let decoded = high << 4 | low
                if decoded == 0 { throw .encodedNUL }
                if isUnreserved(decoded) { head.bytes.append(decoded) } else { appendEscape(head, decoded) }
            case UInt8(ascii: "#"):
                throw .fragment
            case UInt8(ascii: "\\"):
                throw .backslash
            case 0...0x20, 0x7f:
                throw .controlByte
            case 0x80...:
                appendEscape(head, byte)
            default:
                head.bytes.append(byte)
            }
        }
        try endSegment(head, root: root, segment: &segment)
    }

    /// Looks at the segment that ends here: takes a dot segment away, and with `..` the segment before it. `/..` is `/` (RFC 3986
    /// section 5.2.4).
    private static func endSegment(_ head: Head, root: Int, segment: inout Int) throws(PathError) {
        let count = head.bytes.count - segment
        guard count > 0, head.bytes[segment] == UInt8(ascii: ".") else { return }
        let dots = count > 1 && head.bytes[segment + 1] == UInt8(ascii: ".") ? 2 : 1
        guard count == dots else {
            if head.bytes[segment + dots] == UInt8(ascii: ";") { throw .dotSegmentParameter }
            return
        }
        head.bytes.removeLast(dots)
        if dots == 2, segment > root {
            repeat {
                head.bytes.removeLast()
            } while head.bytes[head.bytes.count - 1] != UInt8(ascii: "/")
            segment = head.bytes.count
        }
    }

    private static func appendEscape(_ head: Head, _ byte: UInt8) {
        head.bytes.append(UInt8(ascii: "%"))
        head.bytes.append(upperHexDigit(byte >> 4))
        head.bytes.append(upperHexDigit(byte & 15))
    }

    private static func isSame(_ head: Head, _ left: Range<Int>, _ right: Range<Int>) -> Bool {
        guard left.count == right.count else { return false }
        for offset in 0..<left.count where head.bytes[left.lowerBound + offset] != head.bytes[right.lowerBound + offset] { return false }
        return true
    }

    /// RFC 3986 section 2.3.
    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"): true
        default: false
        }
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func upperHexDigit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
    }
}

extension PathNormalizer {
    /// The normal form of the path that a route names, so that `/caf%c3%a9` and `/café` in a configuration match what requests become.
    /// Nil where no request path can have this form. A prefix may end in the middle of a segment: its last segment is left alone.
    static func pattern(_ text: String, isPrefix: Bool) -> [UInt8]? {
        let head = Head()
        // A letter at the end keeps the last segment of a prefix from being taken for `.` or `..`, and is taken off again.
        head.bytes = Array(text.utf8) + (isPrefix ? [UInt8(ascii: "x")] : [])
        guard head.bytes.first == UInt8(ascii: "/"), !head.bytes.contains(UInt8(ascii: "?")) else { return nil }
        head.target = 0..<head.bytes.count
        guard (try? normalize(head)) != nil else { return nil }
        return Array(head.bytes[head.target].dropLast(isPrefix ? 1 : 0))
    }
}

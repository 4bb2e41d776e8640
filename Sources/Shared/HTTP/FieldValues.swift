/// Content-Length: digits only, at most 19 of them, no more than 2^63 - 1 (RFC 9110 section 8.6).
public func contentLength(_ bytes: RawSpan, _ range: Range<Int>) -> Int64? {
    guard !range.isEmpty, range.count <= 19 else { return nil }
    var length: UInt64 = 0  // 19 digits fit.
    for index in range {
        guard isDigit(bytes.byte(index)) else { return nil }
        length = length &* 10 &+ UInt64(bytes.byte(index) &- 0x30)
    }
    return Int64(exactly: length)
}

/// Whether `range` holds `host [":" port]` of RFC 3986, without user information.
///
/// The host is a name or an address; a port, if there is a colon, has 1 to 5 digits and is no more than 65535. An IPv6 zone is refused: it
/// means something on the sender's machine only.
public func isAuthority(_ bytes: RawSpan, _ range: Range<Int>, needsPort: Bool = false) -> Bool {
    var index = range.lowerBound
    let end = range.upperBound
    guard index < end else { return false }
    if bytes.byte(index) == UInt8(ascii: "[") {
        index &+= 1
        let start = index
        while index < end, hexadecimalValue(bytes.byte(index)) != nil || bytes.byte(index) == 0x3A || bytes.byte(index) == 0x2E {
            index &+= 1
        }
        guard index &- start >= 2, index < end, bytes.byte(index) == UInt8(ascii: "]") else { return false }
        index &+= 1
    } else {
        index = min(bytes.endOfPlain(from: index), end)
        while index < end, isNameCharacter(bytes.byte(index)) {
            if bytes.byte(index) == UInt8(ascii: "%") {
                guard index &+ 2 < end, hexadecimalValue(bytes.byte(index &+ 1)) != nil, hexadecimalValue(bytes.byte(index &+ 2)) != nil
                else { return false }
            }
            index &+= 1
        }
        guard index > range.lowerBound else { return false }
    }
    guard index < end else { return !needsPort }
    guard bytes.byte(index) == UInt8(ascii: ":") else { return false }
    index &+= 1
    guard index < end, end &- index <= 5 else { return false }
    var port = 0
    while index < end {
        guard isDigit(bytes.byte(index)) else { return false }
        port = port &* 10 &+ Int(bytes.byte(index) &- 0x30)
        index &+= 1
    }
    return port <= 65535
}

/// `reg-name` of RFC 3986 section 3.2.2: unreserved, sub-delims, and `%` of an escape.
@inline(__always)
private func isNameCharacter(_ byte: UInt8) -> Bool {
    // $%&'()*+,-. digits ; = ! and A-Z _ a-z ~
    let map: UInt64 = byte < 64 ? 0x2BFF_7FF2_0000_0000 : 0x47FF_FFFE_87FF_FFFE
    return byte < 128 && (map &>> UInt64(byte & 63)) & 1 == 1
}

internal import Base
internal import HTTP

/// What the fields of a head say about the message that they belong to.
struct FieldFacts {
    var contentLength: Int64?
    var isChunked = false
    /// Of the Host field; nil where there is none.
    var host: Range<Int>?
    var saysClose = false
    var saysKeepAlive = false
    /// `Connection: upgrade`.
    var nominatesUpgrade = false
    var hasUpgrade = false
    /// An upgrade to h2c would carry requests past us that we do not see, so it is never offered on.
    var upgradesToHTTP2 = false
    var expectsContinue = false
}

/// Parses the field lines of a head or of a trailer section, up to and with the empty line (RFC 9112 section 5).
///
/// A section may come in any number of pieces; the bytes before are given again each time, and every line is parsed once. So one that
/// comes byte by byte costs O(bytes).
struct FieldSection {
    /// Where the next line starts, from the start of the message. Behind the empty line when the section is complete.
    var line = 0
    /// No line feed stands between `line` and here.
    var searched = 0
    var facts = FieldFacts()

    mutating func reset() {
        line = 0
        searched = 0
        facts = FieldFacts()
    }

    /// Whether the line at `line` may be parsed: it has not been tried, or its end has come since.
    @inline(__always)
    mutating func lineIsReady(_ bytes: RawSpan) -> Bool {
        guard searched > line else { return true }
        let end = bytes.indexOfLineFeed(from: searched)
        guard end < bytes.byteCount else {
            searched = bytes.byteCount
            return false
        }
        return true
    }

    /// Parses on from `line`. Returns whether the section is complete.
    ///
    /// - Parameter bytes: from the start of the message; ranges are relative to it.
    mutating func parse(_ bytes: RawSpan, maxFields: Int, into head: Head) throws(HTTP1Error) -> Bool {
        // Taken out and put back, so that the loop works on a local array and not through the class.
        var fields: [Head.Field] = []
        swap(&fields, &head.fields)
        defer { swap(&fields, &head.fields) }

        let count = bytes.byteCount
        while lineIsReady(bytes) {
            let start = line
            var nameEnd = bytes.endOfPlain(from: start)
            var valueStart = nameEnd &+ 2
            // Nearly every line is `name: value` with a plain name and one space. The rest is looked at closely.
            if !(valueStart < count && nameEnd > start && bytes.pair(nameEnd) == 0x203A && !isBlank(bytes.byte(valueStart))) {
                while nameEnd < count, isToken(bytes.byte(nameEnd)) { nameEnd &+= 1 }
                guard nameEnd < count else { break }
                let delimiter = bytes.byte(nameEnd)
                guard delimiter == UInt8(ascii: ":"), nameEnd > start else {
                    guard delimiter == 0x0D, nameEnd == start else { throw Self.badName(bytes, start, nameEnd) }
                    guard start &+ 1 < count else { break }
                    guard bytes.byte(start &+ 1) == 0x0A else { throw HTTP1Error(.bareLineEnd) }
                    line = start &+ 2
                    return true
                }
                valueStart = nameEnd &+ 1
                while valueStart < count, isBlank(bytes.byte(valueStart)) { valueStart &+= 1 }
            }

            let lineEnd = bytes.endOfValue(from: valueStart)
            guard lineEnd &+ 1 < count, bytes.pair(lineEnd) == 0x0A0D else {
                if lineEnd == count { break }
                guard bytes.byte(lineEnd) == 0x0D else { throw Self.badValue(bytes.byte(lineEnd), start..<nameEnd) }
                if lineEnd &+ 1 == count { break }
                throw HTTP1Error(.bareLineEnd, fieldName: start..<nameEnd)
            }
            var valueEnd = lineEnd
            while valueEnd > valueStart, isBlank(bytes.byte(valueEnd &- 1)) { valueEnd &-= 1 }

            guard fields.count < maxFields else { throw HTTP1Error(.tooManyFields, limit: maxFields, fieldName: start..<nameEnd) }
            let known = KnownField(Span(_bytes: bytes.extracting(start..<nameEnd)))
            fields.append(Head.Field(name: start..<nameEnd, value: valueStart..<valueEnd, known: known))
            if known != .other { try note(known, bytes, valueStart..<valueEnd, name: start..<nameEnd) }
            line = lineEnd &+ 2
        }
        searched = count
        return false
    }

    private mutating func note(_ known: KnownField, _ bytes: RawSpan, _ value: Range<Int>, name: Range<Int>) throws(HTTP1Error) {
        switch known {
        case .host:
            guard facts.host == nil else { throw HTTP1Error(.repeatedHost, fieldName: name) }
            facts.host = value
        case .contentLength:
            // Equal duplicates are refused too: whoever sends them twice wants two parsers to differ.
            guard facts.contentLength == nil else { throw HTTP1Error(.repeatedContentLength, fieldName: name) }
            guard !isBlank(bytes.byte(value.upperBound)), let length = contentLength(bytes, value) else {
                throw HTTP1Error(.invalidContentLength, fieldName: name)
            }
            facts.contentLength = length
        case .transferEncoding:
            guard !facts.isChunked, !isBlank(bytes.byte(value.upperBound)) else {
                throw HTTP1Error(.invalidTransferEncoding, fieldName: name)
            }
            guard bytes.equals(value, "chunked") else { throw Self.badTransferEncoding(bytes, value, name) }
            facts.isChunked = true
        case .connection:
            noteConnection(bytes, value)
        case .upgrade:
            facts.hasUpgrade = true
            var rest = value
            while let element = bytes.nextElement(&rest) {
                if bytes.equals(element, "h2c") || bytes.equals(element, "h2") { facts.upgradesToHTTP2 = true }
            }
        case .expect:
            facts.expectsContinue = bytes.equals(value, "100-continue")
        default:
            break
        }
    }

    private mutating func noteConnection(_ bytes: RawSpan, _ value: Range<Int>) {
        // What nearly all send needs no list.
        if bytes.equals(value, "keep-alive") {
            facts.saysKeepAlive = true
            return
        }
        var rest = value
        while let option = bytes.nextElement(&rest) {
            switch option.count {
            case 5 where bytes.equals(option, "close"): facts.saysClose = true
            case 10 where bytes.equals(option, "keep-alive"): facts.saysKeepAlive = true
            case 7 where bytes.equals(option, "upgrade"): facts.nominatesUpgrade = true
            default: break
            }
        }
    }

    private static func badName(_ bytes: RawSpan, _ start: Int, _ end: Int) -> HTTP1Error {
        switch bytes.byte(end) {
        case 0x20, 0x09: end == start ? HTTP1Error(.foldedField) : HTTP1Error(.spaceBeforeColon, fieldName: start..<end)
        case 0x0A where end == start: HTTP1Error(.bareLineEnd)
        default: HTTP1Error(.invalidFieldName, fieldName: start..<end)
        }
    }

    private static func badValue(_ byte: UInt8, _ name: Range<Int>) -> HTTP1Error {
        HTTP1Error(byte == 0x0A ? .bareLineEnd : .invalidFieldValue, fieldName: name)
    }

    /// 501 for a coding that we do not have, 400 for `chunked` in a place or company where it must not be.
    private static func badTransferEncoding(_ bytes: RawSpan, _ value: Range<Int>, _ name: Range<Int>) -> HTTP1Error {
        guard !value.isEmpty else { return HTTP1Error(.invalidTransferEncoding, fieldName: name) }
        var rest = value
        while let coding = bytes.nextElement(&rest) {
            if coding.isEmpty || bytes.equals(coding, "chunked") || bytes.endOfName(from: coding.lowerBound) < coding.upperBound {
                return HTTP1Error(.invalidTransferEncoding, fieldName: name)
            }
        }
        return HTTP1Error(.unsupportedTransferEncoding, fieldName: name)
    }
}

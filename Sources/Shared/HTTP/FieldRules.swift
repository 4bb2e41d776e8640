/// Which fields may stand where, beyond their syntax.

extension KnownField {
    /// In a trailer section these can only be there to confuse (RFC 9110 section 6.5.1).
    public var changesFraming: Bool {
        switch self {
        case .contentLength, .transferEncoding, .host, .connection: true
        default: false
        }
    }

    /// Between two neighbours only (RFC 9110 section 7.6.1), so never passed on as it came.
    public var isHopByHop: Bool {
        switch self {
        case .connection, .keepAlive, .proxyConnection, .te, .transferEncoding, .upgrade, .http2Settings: true
        default: false
        }
    }
}

extension Head.Field {
    /// Trailers come after the decisions that they could change: routing, authentication, and what the body is. Those are dropped.
    public func isAllowedInTrailers(_ trailers: Head) -> Bool {
        switch known {
        case .grpcStatus, .grpcMessage, .server, .date: true
        case .other: !isOne(of: forbiddenInTrailers, trailers) && !isOurs(trailers)
        default: false
        }
    }

    /// Whether the field survives its nomination by Connection. Stripping `x-forwarded-for` or `authorization` on a caller's word
    /// would let the caller undo what an earlier hop has set.
    public func isEndToEnd(_ head: Head) -> Bool {
        known == .other ? isOne(of: protectedNames, head) || isOurs(head) : !known.isHopByHop
    }

    /// Whether one of the head's Connection fields names this one.
    ///
    /// - Parameter source: the head's bytes.
    public func isNominated(_ head: Head, _ source: RawSpan) -> Bool {
        for connection in head.fields where connection.known == .connection {
            var rest = connection.value
            while let option = source.nextElement(&rest) {
                if option.count == name.count, source.equalsIgnoringCase(option, name) { return true }
            }
        }
        return false
    }

    /// What proxies tell each other.
    private func isOurs(_ head: Head) -> Bool {
        hasPrefix(head, "x-forwarded-") || hasPrefix(head, "x-envoy-") || hasPrefix(head, "x-outrigger-") || hasPrefix(head, "x-b3-")
            || hasPrefix(head, "x-amzn-")
    }

    private func isOne(of names: [StaticString], _ head: Head) -> Bool {
        for text in names where head.equals(name, text) { return true }
        return false
    }

    private func hasPrefix(_ head: Head, _ prefix: StaticString) -> Bool {
        let length = prefix.utf8CodeUnitCount
        return name.count >= length && head.equals(name.lowerBound..<name.lowerBound + length, prefix)
    }
}

extension RawSpan {
    /// Whether a Connection field of this value names anything but the options that we know.
    public func nominatesOthers(_ value: Range<Int>) -> Bool {
        if equals(value, "keep-alive") { return false }
        var rest = value
        while let option = nextElement(&rest) {
            switch option.count {
            case 0: continue
            case 2 where equals(option, "te"): continue
            case 5 where equals(option, "close"): continue
            case 7 where equals(option, "upgrade"): continue
            case 10 where equals(option, "keep-alive"): continue
            default: return true
            }
        }
        return false
    }

    /// Whether a TE field of this value lists `trailers`.
    public func acceptsTrailers(_ value: Range<Int>) -> Bool {
        var rest = value
        while let coding = nextElement(&rest) {
            if equals(coding, "trailers") { return true }
        }
        return false
    }
}

/// RFC 9110 section 6.5.1: fields for framing, routing, request modifiers, authentication, control data and the content's format.
private let forbiddenInTrailers: [StaticString] = [
    "authorization", "cookie", "set-cookie", "cache-control", "content-encoding", "content-range", "max-forwards", "pragma", "range",
    "www-authenticate", "location", "retry-after", "vary", "age", "expires", "origin", "x-real-ip", "if-match", "if-none-match",
    "if-modified-since", "if-unmodified-since", "if-range",
]

private let protectedNames: [StaticString] = [
    "authorization", "cookie", "set-cookie", "cache-control", "content-encoding", "content-range", "origin", "location", "etag", "range",
    "if-match", "if-none-match", "x-real-ip", "via", "traceparent", "tracestate", "baggage", "strict-transport-security", "accept",
    "www-authenticate", "grpc-encoding", "grpc-message",
]

import Base
import ProxyConfig

extension RouteMatch: WireMessage {
    /// envoy.config.route.v3.RouteMatch.
    enum Fields: Int, WireField {
        case prefix = 1
        case path = 2
        case case_sensitive = 4
        case headers = 6
        case query_parameters = 7
        case grpc = 8
        case runtime_fraction = 9
        case safe_regex = 10
        case tls_context = 11
        case connect_matcher = 12
        case dynamic_metadata = 13
        case path_separated_prefix = 14
        case path_match_policy = 15
        case filter_state = 16
    }

    func write(to message: inout MessageWriter<Fields>) {
        switch path {
        case .prefix(let prefix): message.chosenString(.prefix, prefix)
        case .exact(let path): message.chosenString(.path, path)
        case .regex(let regex): message.message(.safe_regex, RegexMatcherField.self) { $0.chosenString(.regex, regex) }
        }
        message.messages(.headers, headers)
        message.messages(.query_parameters, queryParameters)
        if requiresGRPC { message.emptyMessage(.grpc) }
    }

    /// A condition that we cannot check is refused: without it the route would take requests that are not its own.
    static func read(_ message: MessageReader<Fields>) -> RouteMatch? {
        message.refuse(
            .runtime_fraction, .tls_context, .connect_matcher, .dynamic_metadata, .path_separated_prefix, .path_match_policy, .filter_state)
        if message.wrappedBool(.case_sensitive) == false { message.fail(.case_sensitive, expected: "true", found: "false") }
        let headers = message.messages(.headers, HeaderMatcher.self)
        let parameters = message.messages(.query_parameters, QueryParameterMatcher.self)
        let path: Path
        switch message.chosen(.prefix, .path, .safe_regex, .connect_matcher, .path_separated_prefix, .path_match_policy) {
        case .prefix: path = .prefix(message.string(.prefix))
        case .path: path = .exact(message.string(.path))
        case .safe_regex:
            guard let regex = message.message(.safe_regex, RegexMatcherField.self) else { return nil }
            path = .regex(regex.requiredString(.regex))
        case nil:
            message.fail(.prefix, expected: "prefix, path or safe_regex", found: "none of them")
            return nil
        default: return nil  // Refused above.
        }
        return RouteMatch(path: path, headers: headers, queryParameters: parameters, requiresGRPC: message.has(.grpc))
    }
}

extension HeaderMatcher: WireMessage {
    /// envoy.config.route.v3.HeaderMatcher. Those of 4, 9, 10, 11 and 12 are deprecated: read, but never written.
    enum Fields: Int, WireField {
        case name = 1
        case exact_match = 4
        case range_match = 6
        case present_match = 7
        case invert_match = 8
        case prefix_match = 9
        case suffix_match = 10
        case safe_regex_match = 11
        case contains_match = 12
        case string_match = 13
        case treat_missing_header_as_empty = 14
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        switch condition {
        case .present: message.chosenBool(.present_match, true)
        case .exact(let text): message.message(.string_match, StringMatcherField.self) { $0.chosenString(.exact, text) }
        case .prefix(let text): message.message(.string_match, StringMatcherField.self) { $0.chosenString(.prefix, text) }
        case .suffix(let text): message.message(.string_match, StringMatcherField.self) { $0.chosenString(.suffix, text) }
        case .regex(let regex):
            message.message(.string_match, StringMatcherField.self) {
                $0.message(.safe_regex, RegexMatcherField.self) { $0.chosenString(.regex, regex) }
            }
        case .range(let start, let end):
            message.message(.range_match, Int64RangeField.self) {
                $0.number(.start, start)
                $0.number(.end, end)
            }
        }
        message.bool(.invert_match, isInverted)
    }

    static func read(_ message: MessageReader<Fields>) -> HeaderMatcher? {
        if message.bool(.treat_missing_header_as_empty) { message.refuse(.treat_missing_header_as_empty) }
        message.refuse(.contains_match)
        let name = message.requiredString(.name).lowercased()
        var isInverted = message.bool(.invert_match)
        let condition: Condition?
        switch message.chosen(
            .exact_match, .range_match, .present_match, .prefix_match, .suffix_match, .safe_regex_match, .contains_match, .string_match)
        {
        case .string_match: condition = message.message(.string_match, StringMatcherField.self)?.condition()
        case .exact_match: condition = .exact(message.string(.exact_match))
        case .prefix_match: condition = .prefix(message.requiredString(.prefix_match))
        case .suffix_match: condition = .suffix(message.requiredString(.suffix_match))
        case .safe_regex_match:
            condition = message.message(.safe_regex_match, RegexMatcherField.self).map { .regex($0.requiredString(.regex)) }
        case .range_match:
            condition = message.message(.range_match, Int64RangeField.self).map { .range(start: $0.signed(.start), end: $0.signed(.end)) }
        case .present_match:
            condition = .present
            if !message.bool(.present_match) { isInverted.toggle() }
        case nil: condition = .present
        default: condition = nil  // Refused above.
        }
        return condition.map { HeaderMatcher(name: name, condition: $0, isInverted: isInverted) }
    }
}

extension MessageReader<StringMatcherField> {
    fileprivate func condition() -> HeaderMatcher.Condition? {
        refuseIgnoringCase()
        switch chosen(.exact, .prefix, .suffix, .safe_regex, .contains, .custom) {
        case .exact: return .exact(string(.exact))
        case .prefix: return .prefix(requiredString(.prefix))
        case .suffix: return .suffix(requiredString(.suffix))
        case .safe_regex: return message(.safe_regex, RegexMatcherField.self).map { .regex($0.requiredString(.regex)) }
        case let other:
            context.add(path, expected: "exact, prefix, suffix or safe_regex", found: other.map { "\($0)" } ?? "none of them")
            return nil
        }
    }
}

/// envoy.type.v3.Int64Range.
enum Int64RangeField: Int, WireField {
    case start = 1
    case end = 2
}

extension QueryParameterMatcher: WireMessage {
    /// envoy.config.route.v3.QueryParameterMatcher.
    enum Fields: Int, WireField {
        case name = 1
        case string_match = 5
        case present_match = 6
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        if let exact {
            message.message(.string_match, StringMatcherField.self) { $0.chosenString(.exact, exact) }
        } else {
            message.chosenBool(.present_match, true)
        }
    }

    static func read(_ message: MessageReader<Fields>) -> QueryParameterMatcher? {
        let name = message.requiredString(.name)
        switch message.chosen(.string_match, .present_match) {
        case .string_match:
            guard let exact = message.message(.string_match, StringMatcherField.self)?.exactText() else { return nil }
            return QueryParameterMatcher(name: name, exact: exact)
        case .present_match:
            if !message.bool(.present_match) { message.fail(.present_match, expected: "true", found: "false") }
            return QueryParameterMatcher(name: name)
        default: return QueryParameterMatcher(name: name)
        }
    }
}

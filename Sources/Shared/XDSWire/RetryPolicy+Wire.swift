import Base
import ProxyConfig

extension RetryPolicy: WireMessage {
    /// envoy.config.route.v3.RetryPolicy.
    enum Fields: Int, WireField {
        case retry_on = 1
        case num_retries = 2
        case per_try_timeout = 3
        case retry_host_predicate = 5
        case host_selection_retry_max_attempts = 6
        case retriable_status_codes = 7
        case retry_back_off = 8
        case retriable_headers = 9
        case retriable_request_headers = 10
        case retry_options_predicates = 12
        case per_try_idle_timeout = 13
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.retry_on, retryOn.joined(separator: ","))
        message.wrapped(.num_retries, maxRetries)
        if let perTryTimeout { message.duration(.per_try_timeout, perTryTimeout) }
        if hostSelectionMaxAttempts > 0 {
            message.message(.retry_host_predicate, RetryHostPredicateField.self) {
                $0.string(.name, "envoy.retry_host_predicates.previous_hosts")
                $0.any(.typed_config, .previousHosts, NoField.self) { _ in }
            }
            message.number(.host_selection_retry_max_attempts, hostSelectionMaxAttempts)
        }
        message.numbers(.retriable_status_codes, retriableStatusCodes)
        if backoffBase != Self.envoysBackoff.base || backoffLongest != Self.envoysBackoff.longest {
            message.message(.retry_back_off, RetryBackOffField.self) {
                $0.duration(.base_interval, backoffBase)
                $0.duration(.max_interval, backoffLongest)
            }
        }
    }

    private static let envoysBackoff = (base: Duration.milliseconds(25), longest: Duration.milliseconds(250))

    /// Without the previous_hosts predicate no other host is looked for: 0 attempts. Retry priority is ignored.
    static func read(_ message: MessageReader<Fields>) -> RetryPolicy? {
        message.refuse(.retriable_headers, .retriable_request_headers, .retry_options_predicates, .per_try_idle_timeout)
        let words = message.string(.retry_on).split(separator: ",").map { word in
            String(word.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
        let codes: [Int] = message.numbers(.retriable_status_codes).compactMap { code in
            if (100...599).contains(code) { return Int(code) }
            message.fail(.retriable_status_codes, expected: "codes from 100 through 599", found: code)
            return nil
        }
        let avoidsPreviousHosts = message.messages(.retry_host_predicate, RetryHostPredicateField.self).contains {
            $0.any(.typed_config)?.type == .previousHosts || $0.string(.name) == "envoy.retry_host_predicates.previous_hosts"
        }
        let attempts = message.signed(.host_selection_retry_max_attempts)
        if !(0...1000).contains(attempts) {
            message.fail(.host_selection_retry_max_attempts, expected: "a number from 0 through 1000", found: attempts)
        }
        var backoff = Self.envoysBackoff
        if let intervals = message.message(.retry_back_off, RetryBackOffField.self) {
            if !intervals.has(.base_interval) { intervals.fail(.base_interval, expected: "a value", found: "nothing") }
            backoff.base = intervals.positiveDuration(.base_interval) ?? backoff.base
            backoff.longest = intervals.positiveDuration(.max_interval) ?? backoff.base * 10
            if backoff.longest < backoff.base {
                intervals.fail(.max_interval, expected: "at least base_interval (\(backoff.base))", found: backoff.longest)
            }
        }
        return RetryPolicy(
            retryOn: words.filter { !$0.isEmpty }, retriableStatusCodes: codes, maxRetries: Int(message.wrapped(.num_retries) ?? 1),
            perTryTimeout: message.timeout(.per_try_timeout) ?? nil,
            hostSelectionMaxAttempts: avoidsPreviousHosts ? max(1, Int(attempts)) : 0, backoffBase: backoff.base,
            backoffLongest: backoff.longest)
    }
}

/// envoy.config.route.v3.RetryPolicy.RetryHostPredicate.
enum RetryHostPredicateField: Int, WireField {
    case name = 1
    case typed_config = 3
}

/// envoy.config.route.v3.RetryPolicy.RetryBackOff.
enum RetryBackOffField: Int, WireField {
    case base_interval = 1
    case max_interval = 2
}

import Base
import ProxyConfig

/// What a gateway route does to the path before the router of its service looks at it.
enum GatewayPath: Hashable {
    /// `prefix` becomes `replacement`; equal ones leave the path alone.
    case prefix(String, becomes: String)
    /// The path is this one, and becomes `replacement`.
    case exact(String, becomes: String)
    /// Matching paths stay as they are.
    case regex(String)
    /// Matching paths become this one.
    case regexBecoming(String, String)
}

/// Two passes in one. App Mesh's gateway matched and rewrote a request, sent it to itself, and there the service's router matched what
/// the first pass had made of it. We compose both matches when we compile: the proxy looks once and forwards once.
/// The reasons: docs/decisions/0010-gateway-routes-are-composed.md.
struct PathComposition: Hashable {
    var path: RouteMatch.Path
    /// What the path alone cannot say: conditions on `:path`.
    var conditions: [HeaderMatcher] = []
    var rewrite: ForwardAction.PathRewrite?

    struct Inexpressible: Error, Hashable {
        var pattern: String
    }

    /// The matches that hold exactly where `gateway` holds and `router` holds for the path that the gateway makes of it; none, where
    /// that can never be. In the order in which they must be tried.
    static func compose(_ gateway: GatewayPath, _ router: RouteMatch.Path) throws(Inexpressible) -> [PathComposition] {
        switch gateway {
        case .prefix(let prefix, let replacement) where prefix == replacement:
            return kept(prefix, router)
        case .prefix(let prefix, let replacement):
            return try rewritten(prefix, replacement, router)
        case .exact(let path, let replacement):
            guard try router.holds(for: replacement) else { return [] }
            return [PathComposition(path: .exact(path), rewrite: path == replacement ? nil : .full(replacement))]
        case .regexBecoming(let pattern, let replacement):
            guard try router.holds(for: replacement) else { return [] }
            return [PathComposition(path: .regex(pattern), rewrite: .full(replacement))]
        case .regex(let pattern):
            switch router {
            case .exact(let path):
                return try RouteMatch.Path.regex(pattern).holds(for: path) ? [PathComposition(path: .exact(path))] : []
            case .prefix, .regex:
                return [PathComposition(path: .regex(pattern), conditions: router.asCondition)]
            }
        }
    }

    /// The path stays: both matches must hold for it.
    private static func kept(_ prefix: String, _ router: RouteMatch.Path) -> [PathComposition] {
        switch router {
        case .prefix(let other):
            if other.hasPrefix(prefix) { return [PathComposition(path: .prefix(other))] }
            return prefix.hasPrefix(other) ? [PathComposition(path: .prefix(prefix))] : []
        case .exact(let path):
            return path.hasPrefix(prefix) ? [PathComposition(path: .exact(path))] : []
        case .regex(let pattern):
            return [PathComposition(path: .regex(pattern), conditions: RouteMatch.Path.prefix(prefix).asCondition)]
        }
    }

    private static func rewritten(
        _ prefix: String, _ replacement: String, _ router: RouteMatch.Path
    ) throws(Inexpressible) -> [PathComposition] {
        // `/shop` becomes `/`: `/shop/cart` is `//cart` by the letter and `/cart` in its normal form, which the router sees.
        let needsSlash = !prefix.hasSuffix("/") && replacement.hasSuffix("/")
        let variants = needsSlash ? ["\(prefix)/", prefix] : [prefix]
        var composed: [PathComposition] = []
        for variant in variants {
            switch router {
            case .prefix(let other) where replacement.hasPrefix(other):
                composed.append(PathComposition(path: .prefix(variant), rewrite: .prefix(replacement)))
            case .prefix(let other) where other.hasPrefix(replacement):
                let rest = other.dropFirst(replacement.count)
                composed.append(PathComposition(path: .prefix("\(variant)\(rest)"), rewrite: .prefix(other)))
            case .exact(let path) where path.hasPrefix(replacement):
                let rest = path.dropFirst(replacement.count)
                composed.append(PathComposition(path: .exact("\(variant)\(rest)"), rewrite: .full(path)))
            case .prefix, .exact:
                break
            case .regex(let pattern):
                guard let rest = RegexDerivative.of(pattern, by: replacement) else { throw Inexpressible(pattern: pattern) }
                for alternative in rest {
                    let condition = "\(RegexDerivative.quoted(variant))(?:\(alternative))(?:\\?.*)?"
                    composed.append(
                        PathComposition(
                            path: .prefix(variant), conditions: [HeaderMatcher(name: ":path", condition: .regex(condition))],
                            rewrite: .prefix(replacement)))
                }
            }
        }
        return composed
    }
}

extension RouteMatch.Path {
    /// Whether a path that is known now matches.
    fileprivate func holds(for path: String) throws(PathComposition.Inexpressible) -> Bool {
        switch self {
        case .prefix(let prefix): return path.hasPrefix(prefix)
        case .exact(let exact): return path == exact
        case .regex(let pattern):
            guard let regex = try? Regex(pattern) else { throw PathComposition.Inexpressible(pattern: pattern) }
            return (try? regex.wholeMatch(in: path)) != nil
        }
    }

    /// The same as a condition on `:path`, which carries the query too.
    fileprivate var asCondition: [HeaderMatcher] {
        switch self {
        case .prefix("/"): []
        case .prefix(let prefix): [HeaderMatcher(name: ":path", condition: .prefix(prefix))]
        case .exact(let path): [HeaderMatcher(name: ":path", condition: .regex("\(RegexDerivative.quoted(path))(?:\\?.*)?"))]
        case .regex(let pattern): [HeaderMatcher(name: ":path", condition: .regex("(?:\(pattern))(?:\\?.*)?"))]
        }
    }
}

/// Takes a known beginning off a pattern (Brzozowski's derivative by a string), for the patterns that people write for paths.
enum RegexDerivative {
    /// Patterns whose union matches exactly the rests `r` for which `pattern` matches `beginning + r`. Empty: there are none.
    /// Nil: the pattern begins with something that this does not take apart (a group, a class, a counted repetition).
    static func of(_ pattern: String, by beginning: String) -> [String]? {
        guard var patterns = alternatives(pattern) else { return nil }
        for character in beginning {
            var next: [String] = []
            for pattern in patterns {
                guard let rests = derivative(pattern[...], character) else { return nil }
                for rest in rests where !next.contains(rest) { next.append(rest) }
            }
            patterns = next
        }
        return patterns
    }

    /// A pattern that matches the text alone.
    static func quoted(_ text: some StringProtocol) -> String {
        var quoted = ""
        for character in text {
            if "\\.+*?()|[]{}^$".contains(character) { quoted.append("\\") }
            quoted.append(character)
        }
        return quoted
    }

    /// Splits at the `|` that stand in no group and no class; nil where the parentheses do not pair.
    private static func alternatives(_ pattern: String) -> [String]? {
        var parts = [""]
        var depth = 0
        var isInClass = false
        var isEscaped = false
        for character in pattern {
            if isEscaped {
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if isInClass {
                isInClass = character != "]"
            } else if character == "[" {
                isInClass = true
            } else if character == "(" {
                depth += 1
            } else if character == ")" {
                depth -= 1
            } else if character == "|", depth == 0 {
                parts.append("")
                continue
            }
            parts[parts.count - 1].append(character)
        }
        return depth == 0 && !isInClass && !isEscaped ? parts : nil
    }

    /// Of a pattern without alternatives of its own, by one character.
    private static func derivative(_ pattern: Substring, _ character: Character) -> [String]? {
        var rest = pattern
        if rest.first == "^" { rest.removeFirst() }  // Matches are of the whole path anyway.
        guard let first = rest.popFirst() else { return [] }
        let matches: Bool
        switch first {
        case "$": return rest.isEmpty ? [] : nil
        case ".": matches = true
        case "\\":
            // Letters and digits are classes and assertions (\d, \b); all else is itself.
            guard let literal = rest.popFirst(), !literal.isLetter, !literal.isNumber else { return nil }
            matches = literal == character
        case "(", "[", "{", "*", "+", "?": return nil
        default: matches = first == character
        }
        let atom = String(pattern.dropFirst(pattern.first == "^" ? 1 : 0).dropLast(rest.count))
        guard let quantifier = rest.first, "*+?{".contains(quantifier) else { return matches ? [String(rest)] : [] }
        guard quantifier != "{" else { return nil }
        rest.removeFirst()
        if rest.first == "?" || rest.first == "+" { rest.removeFirst() }  // Lazy or greedy: the same paths match.
        switch quantifier {
        case "?":
            guard let without = derivative(rest, character) else { return nil }
            return (matches ? [String(rest)] : []) + without
        case "+":
            return matches ? ["\(atom)*\(rest)"] : []
        default:
            guard let without = derivative(rest, character) else { return nil }
            return (matches ? ["\(atom)*\(rest)"] : []) + without
        }
    }
}

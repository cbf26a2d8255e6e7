//! Scalar functions.

use super::*;

#[test]
fn numbers() {
    check("ABS(n)", ["7", "NULL", "NULL"]);
    check("ABS(x)", ["2.5", "NULL", "0.125"]);
    check("abs(amount)", ["12.50", "NULL", "9999999999999999.99"]);
    check("SIGN(amount)", ["1.00", "NULL", "-1.00"]);
    check("SIGN(n)", ["1", "NULL", "-1"]);
    check("SIGN(x)", ["1.0", "NULL", "-1.0"]);
    check("FLOOR(amount)", ["12", "NULL", "-10000000000000000"]);
    check("CEIL(amount)", ["13", "NULL", "-9999999999999999"]);
    check("CEILING(x)", ["3.0", "NULL", "-0.0"]);
    check("FLOOR(n)", ["7", "NULL", "-9223372036854775808"]);
    check("ROUND(amount)", ["13", "NULL", "-10000000000000000"]);
    check("ROUND(amount, 1)", ["12.5", "NULL", "-10000000000000000.0"]);
    check("ROUND(amount, 5)", ["12.50", "NULL", "-9999999999999999.99"]);
    check("ROUND(amount, -1)", ["10", "NULL", "-10000000000000000"]);
    check("ROUND(id * 5, -1)", ["10", "10", "20"]);
    check("ROUND(n, -19)", ["0", "NULL", "NULL"]);
    check("ROUND(x, 2)", ["2.5", "NULL", "-0.13"]);
    check("MOD(n, 4)", ["3", "NULL", "0"]);
    check("POWER(id, 2)", ["1.0", "4.0", "9.0"]);
    check("EXP(0)", ["1.0", "1.0", "1.0"]);
    check("LN(id - 1)", ["NULL", "0.0", "0.6931471805599453"]);
    check("GREATEST(n, 3)", ["7", "NULL", "3"]);
    check("LEAST(amount, 10)", ["10.00", "NULL", "-9999999999999999.99"]);
    check("GREATEST(type, 'Z')", ["'Z'", "NULL", "'a type that is long'"]);
    check_type("FLOOR(amount)", "DECIMAL(18,0)");
    check_type("ROUND(1.25, 1)", "DECIMAL(3,1)");
    check_type("ROUND(x, 1)", "DOUBLE");
}

#[test]
fn texts() {
    check("UPPER(name)", ["'ADA LOVELACE'", "NULL", "'ÜNÏCODE, LONG ENOUGH TO LIE IN THE HEAP'"]);
    check("LOWER(type)", ["'buy'", "NULL", "'a type that is long'"]);
    check("LENGTH(name)", ["12", "NULL", "39"]);
    check("CHAR_LENGTH(type)", ["3", "NULL", "19"]);
    check("OCTET_LENGTH(name)", ["12", "NULL", "41"]);
    check("LENGTH(raw)", ["5", "NULL", "0"]);
    check("SUBSTRING(name FROM 1 FOR 3)", ["'Ada'", "NULL", "'Ünï'"]);
    check("SUBSTRING(name, 5)", ["'Lovelace'", "NULL", "'ode, long enough to lie in the heap'"]);
    check("SUBSTR(name, -4, 2)", ["'la'", "NULL", "'he'"]);
    check("name || '!'", ["'Ada Lovelace!'", "NULL", "'Ünïcode, long enough to lie in the heap!'"]);
    check("'#' || id || '/' || type", ["'#1/BUY'", "NULL", "'#3/a type that is long'"]);
    check("CONCAT(type, '-', id)", ["'BUY-1'", "NULL", "'a type that is long-3'"]);
    check(
        "CONCAT('1','2','3','4','5','6','7','8','9','10', id, type)",
        ["'123456789101BUY'", "NULL", "'123456789103a type that is long'"],
    );
    check("TRIM('  a ')", ["'a'", "'a'", "'a'"]);
    check("TRIM(LEADING 'B' FROM type)", ["'UY'", "NULL", "'a type that is long'"]);
    check("TRIM(BOTH 'ga' FROM type)", ["'BUY'", "NULL", "' type that is lon'"]);
    check("RTRIM(type, 'Y')", ["'BU'", "NULL", "'a type that is long'"]);
    check("REPLACE(type, 'U', 'ooooo')", ["'BoooooY'", "NULL", "'a type that is long'"]);
    check("POSITION('U' IN type)", ["2", "NULL", "0"]);
    check("INSTR(name, 'L')", ["5", "NULL", "0"]);
    check("LOCATE('code', name)", ["0", "NULL", "4"]);
    check("REGEXP_EXTRACT(name, '([A-Z])(\\w+)', 2)", ["'da'", "NULL", "NULL"]);
    check("REGEXP_EXTRACT(name, 'L\\w+')", ["'Lovelace'", "NULL", "NULL"]);
    check("REGEXP_EXTRACT(name, '(x)|A', 1)", ["NULL", "NULL", "NULL"]);
    check("REGEXP_REPLACE(type, '[A-Z]+', '<$0>')", ["'<BUY>'", "NULL", "'a type that is long'"]);
    check(
        "SPLIT(name, ' ')",
        [
            "['Ada', 'Lovelace']",
            "NULL",
            "['Ünïcode,', 'long', 'enough', 'to', 'lie', 'in', 'the', 'heap']",
        ],
    );
    check("SPLIT(name, ' ')[2]", ["'Lovelace'", "NULL", "'long'"]);
    check("SPLIT(name, ' ')[0]", ["NULL", "NULL", "NULL"]);
    check("CARDINALITY(SPLIT(type, ' '))", ["1", "NULL", "5"]);
    check("SPLIT('', ',')", ["['']", "['']", "['']"]);
    check("CASE WHEN ok THEN SPLIT('', '') ELSE SPLIT('a', '') END", ["[]", "['a']", "['a']"]);
    check("SPLIT_INDEX(name, ' ', 0)", ["'Ada'", "NULL", "'Ünïcode,'"]);
    check("SPLIT_INDEX(name, ' ', -1)", ["NULL", "NULL", "NULL"]);
    check("LEFT(name, 2)", ["'Ad'", "NULL", "'Ün'"]);
    check("RIGHT(name, 2)", ["'ce'", "NULL", "'ap'"]);
    check("LPAD(type, 5, '*')", ["'**BUY'", "NULL", "'a typ'"]);
    check("RPAD(type, 5, 'ü')", ["'BUYüü'", "NULL", "'a typ'"]);
    check(
        "REPEAT(type, 3)",
        ["'BUYBUYBUY'", "NULL", "'a type that is longa type that is longa type that is long'"],
    );
    check("REPEAT(name, 9223372036854775807)", ["NULL", "NULL", "NULL"]);
    check("REVERSE(type)", ["'YUB'", "NULL", "'gnol si taht epyt a'"]);
    check("INITCAP(type)", ["'Buy'", "NULL", "'A Type That Is Long'"]);
    check("REGEXP(type, 'U')", ["TRUE", "NULL", "FALSE"]);
    check(
        "name || name",
        [
            "'Ada LovelaceAda Lovelace'",
            "NULL",
            "'Ünïcode, long enough to lie in the heapÜnïcode, long enough to lie in the heap'",
        ],
    );
    check("UPPER(name) || UPPER(name) = UPPER(name || name)", ["TRUE", "NULL", "TRUE"]);
}
